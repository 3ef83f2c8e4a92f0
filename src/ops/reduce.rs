//! Reductions: sums and means, and repetition, which is their gradient.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    columns::{LANES, rows_of_part},
    pointwise::common_float,
};
use crate::{
    graph::{Attributes, Backward, DynOp, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{
        BLOCK, Evaluator, Expr, Extents, Pass, Reduction, Signature, cpu, gpu, reduction_module, reduction_width,
    },
    tensor::{DType, Real, Shape, TensorType, random},
};

/// Sums of expressions over neighbouring axes: a plain sum or mean, the sums of a gradient, or several of them with the
/// pointwise operations around them. Inputs are all f32 or all f16, and so are the outputs; sums are in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    name: String,
    reduction: Reduction,
    /// Of a plain sum: what it is multiplied by. Only such a sum is differentiable.
    scale: Option<f32>,
}

/// Repeats a value along the axes in which its extent is 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broadcast {
    shape: Shape,
}

impl Op for Broadcast {
    fn name(&self) -> &str {
        "broadcast"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("broadcast", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        if !input.dtype.is_float() || input.shape.broadcast(&self.shape).as_ref() != Some(&self.shape) {
            return Err(ShapeError::new(format!("{input} does not broadcast to {}", self.shape)));
        }
        Ok(vec![TensorType { dtype: input.dtype, shape: self.shape.clone() }])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let (dy, shape) = (backward.grad(), backward.input_shape(0));
        Ok(vec![Some(backward.graph.sum_to_shape(dy, &shape)?)])
    }

    fn pointwise(&self) -> Option<Expr> {
        Some(Expr::Input(0))
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        super::pointwise::run(&Expr::Input(0), args);
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        super::pointwise::candidates(&Expr::Input(0), signature)
    }
}

impl Reduce {
    /// A reduction without a gradient.
    pub fn new(name: impl Into<String>, reduction: Reduction) -> Self {
        Self { name: name.into(), reduction, scale: None }
    }

    /// The sum over `axes` axes from `first_axis` on, times a scale: with the scale 1/n it is the mean.
    fn sum(shape: &Shape, first_axis: usize, axes: usize, scale: f32) -> Self {
        let sum = Expr::Input(0);
        let output = if scale == 1.0 { sum } else { sum * f64::from(scale) };
        let (terms, outputs) = (vec![Expr::Input(0)], vec![output]);
        let reduction = Reduction { shape: shape.clone(), first_axis, axes, terms, outputs };
        Self { name: "sum".to_string(), reduction, scale: Some(scale) }
    }
}

impl Op for Reduce {
    fn name(&self) -> &str {
        &self.name
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("reduce", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let Reduction { shape, first_axis, axes, .. } = &self.reduction;
        if first_axis + axes > shape.rank() {
            return Err(ShapeError::new(format!("cannot sum axes {first_axis}..{} of {shape}", first_axis + axes)));
        }
        let (terms, results) = (self.reduction.terms.iter(), self.reduction.outputs.iter());
        let reads_more = terms.clone().any(|term| term.inputs() > inputs.len())
            || results.clone().any(|output| output.inputs() > terms.len() + inputs.len());
        if inputs.is_empty() || terms.len() == 0 || results.len() == 0 || reads_more {
            return Err(ShapeError::new(format!("does not reduce {} inputs", inputs.len())));
        }
        let broadcasts = |input: &TensorType, to: &Shape| input.shape.broadcast(to).as_ref() == Some(to);
        let output = self.reduction.output_shape();
        let dtype = common_float(inputs)?;
        for (n, input) in inputs.iter().enumerate() {
            let fits = (!self.reduction.adds(n) || broadcasts(input, shape))
                && (!self.reduction.finishes_with(n) || broadcasts(input, &output));
            if !fits {
                return Err(ShapeError::new(format!("cannot sum {input} as {dtype}{shape}")));
            }
        }
        Ok(vec![TensorType { dtype, shape: output }; self.reduction.outputs.len()])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let Some(scale) = self.scale else { return Err(backward.not_differentiable(&self.name)) };
        let Reduction { shape, first_axis, axes, .. } = &self.reduction;
        let dy = backward.grad();
        let mut stretched = shape.to_vec();
        stretched[*first_axis..first_axis + axes].fill(1);
        let dy = backward.graph.reshape(dy, stretched)?;
        let dy = backward.graph.broadcast_to(dy, shape)?;
        Ok(vec![Some(if scale == 1.0 { dy } else { backward.graph.scale(dy, scale.into())? })])
    }

    fn reduction(&self) -> Option<&Reduction> {
        Some(&self.reduction)
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let Reduction { shape, terms, outputs, .. } = &self.reduction;
        let added: u64 = terms.iter().map(|term| term.operations() + 1).sum();
        let finished: u64 = outputs.iter().map(Expr::operations).sum();
        added * shape.elements() as u64 + finished * signature.outputs[0].elements() as u64
    }

    fn cpu_scratch(&self, _: &Signature) -> usize {
        let extents = self.reduction.extents();
        let Extents { outer, inner, .. } = extents;
        // The partial sums, and the sums of each term one after the other.
        (parts(extents) * lanes(extents) + inner) * outer * self.reduction.terms.len()
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let extents = self.reduction.extents();
        let (terms, parts) = (self.reduction.terms.len(), parts(extents));
        let output = self.reduction.output_shape();
        let shapes: Vec<&Shape> = (0..args.inputs.len()).map(|n| &args.inputs.ty(n).shape).collect();
        let inputs: Vec<Option<&[T]>> = (0..args.inputs.len()).map(|n| Some(args.inputs.float(n))).collect();
        let evaluator = Evaluator::several(&self.reduction.terms, &shapes, &self.reduction.shape);

        let (partial, sums) = args.scratch.split_at_mut(parts * terms * extents.outer * lanes(extents));
        add_up(extents, terms, &evaluator, &inputs, partial);
        // In the order of the parts: [outer, parts, blocks of columns, terms, lanes] to [terms, outer, inner].
        sums.fill(T::ZERO);
        let (inner, columns) = (extents.inner, columns(extents));
        for (at, part) in partial.chunks_exact((terms * lanes(extents)).max(1)).enumerate() {
            let o = at / parts;
            for (block, part) in part.chunks(terms * block_lanes(extents)).enumerate() {
                for (t, part) in part.chunks_exact(part.len() / terms).enumerate() {
                    let first = (t * extents.outer + o) * inner + block * columns;
                    let part = part.iter().take(columns);
                    sums[first..].iter_mut().zip(part).for_each(|(sum, part)| *sum += *part);
                }
            }
        }

        let shapes: Vec<&Shape> = std::iter::repeat_n(&output, terms).chain(shapes).collect();
        let sums = sums.chunks_exact(output.elements().max(1)).map(Some);
        let values: Vec<Option<&[T]>> = sums.chain(inputs).collect();
        for (at, expr) in self.reduction.outputs.iter().enumerate() {
            Evaluator::new(expr, &shapes, &output).run(&values, args.outputs.float(at), 0);
        }
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        let width = reduction_width(&self.reduction, &signature.inputs);
        let grid = Grid::new(self.reduction.extents(), width);
        let pass = |grid: &Grid, pass: Pass| {
            let (text, bindings) = reduction_module(&self.reduction, signature, width, pass);
            grid.pass(text, bindings, limits.subgroup.is_some())
        };
        let whole = pass(&grid, Pass::Whole);
        if grid.splits == 1 && whole.bindings.len() <= gpu::MAX_BINDINGS {
            return vec![gpu::Candidate::single(format!("sums x{width}"), whole)];
        }
        vec![gpu::Candidate {
            name: format!("sums x{width} split {}", grid.splits),
            passes: vec![pass(&grid, Pass::Split), pass(&grid.merge(), Pass::Merge)],
            scratch: vec![grid.splits * self.reduction.terms.len() * signature.outputs[0].elements()],
        }]
    }
}

/// Neighbouring sums that one CPU task adds up at once: all, or an equal part of them.
fn columns(extents: Extents) -> usize {
    let inner = extents.inner.max(1);
    inner.div_ceil(inner.div_ceil(BLOCK))
}

/// Partial sums of each sum on the CPU. The parts never depend on the number of threads, so neither do the results.
fn parts(extents: Extents) -> usize {
    extents.n.div_ceil(rows_of_part(columns(extents))).max(1)
}

/// Partial sums that one task has of each term: one a column, or as many as hold some whole rows of few columns, of which
/// lane `j` belongs to column `j % columns`.
fn lanes(extents: Extents) -> usize {
    extents.inner * (LANES / extents.inner.max(1)).max(1)
}

/// Those of them that are in one block of columns, but for the last block.
fn block_lanes(extents: Extents) -> usize {
    if extents.inner > BLOCK { columns(extents) } else { lanes(extents).max(1) }
}

/// Partial sums `[outer, parts, blocks of columns, terms, lanes]` of the evaluator's expressions; those of a column are
/// added up in its first lane.
fn add_up<T: Real>(extents: Extents, terms: usize, evaluator: &Evaluator, inputs: &[Option<&[T]>], partial: &mut [T]) {
    let Extents { n, inner, .. } = extents;
    let (columns, parts, lanes) = (columns(extents), parts(extents), lanes(extents));
    let rows = rows_of_part(columns);
    // Sums of few terms are not worth a task each.
    let least = (1 << 14) / (n.min(rows) * inner).max(1);
    partial.par_chunks_mut((terms * lanes).max(1)).with_min_len(least.max(1)).enumerate().for_each(|(at, partial)| {
        let (o, first) = (at / parts, at % parts * rows);
        let rows = o * n + first..o * n + n.min(first + rows);
        partial.par_chunks_mut(terms * block_lanes(extents)).enumerate().for_each(|(block, sums)| {
            sums.fill(T::ZERO);
            let lanes = sums.len() / terms;
            // Of few columns some whole rows at a time, of many a part of each row.
            let (first, width, step) = match inner <= BLOCK {
                true => (0, inner * (BLOCK / inner), inner * (BLOCK / inner)),
                false => (block * columns, lanes, inner),
            };
            let end = rows.end * inner;
            let starts = (rows.start * inner + first..end).step_by(step);
            evaluator.for_blocks(
                inputs,
                starts.map(|start| start..end.min(start + width)),
                #[inline(always)]
                |term, values| {
                    let sums = &mut sums[term * lanes..(term + 1) * lanes];
                    for values in values.chunks(lanes) {
                        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += *value);
                    }
                },
            );
            for lanes in sums.chunks_exact_mut(lanes) {
                let (sums, others) = lanes.split_at_mut(columns.min(lanes.len()));
                for lanes in others.chunks_exact(columns) {
                    sums.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += *lane);
                }
            }
        });
    });
}

/// How a GPU takes a sum apart, counted in Elements of `width` floats: a workgroup of 256 owns `columns` neighbours of
/// one outer index and one split, which takes `chunk` terms.
#[derive(Clone, Copy, Debug)]
struct Grid {
    extents: Extents,
    columns: usize,
    chunk: usize,
    splits: usize,
}

impl Grid {
    /// Few long sums are split, so that enough workgroups run; each invocation keeps at least 16 terms.
    fn new(Extents { outer, n, inner }: Extents, width: usize) -> Self {
        // Where there is one sum, the elements of a vector are terms of it.
        let (n, inner) = if inner == 1 { (n / width, 1) } else { (n, inner / width) };
        let columns = inner.next_power_of_two().min(if width == 4 { 32 } else { 64 });
        let useful = n.div_ceil(16 * 256 / columns).max(1);
        let splits = 1024usize.div_ceil((outer * inner.div_ceil(columns)).max(1)).min(useful).min(256);
        let chunk = n.div_ceil(splits).max(1);
        Self { extents: Extents { outer, n, inner }, columns, chunk, splits: n.div_ceil(chunk).max(1) }
    }

    /// The sum of this one's splits: few columns a workgroup, because the splits are many.
    fn merge(&self) -> Self {
        let Extents { outer, inner, .. } = self.extents;
        let extents = Extents { outer: 1, n: self.splits, inner: outer * inner };
        Self { extents, columns: extents.inner.next_power_of_two().min(4), chunk: self.splits, splits: 1 }
    }

    /// The same without splits.
    fn whole(self) -> Self {
        Self { chunk: self.extents.n.max(1), splits: 1, ..self }
    }

    fn pass(&self, fused: String, bindings: Vec<gpu::Binding>, subgroups: bool) -> gpu::Pass {
        let Extents { outer, n, inner } = self.extents;
        gpu::Pass {
            shader: gpu::Shader::file("reduce/terms")
                .feature("SUBGROUPS", subgroups)
                .constant("OUTER", outer)
                .constant("N", n)
                .constant("INNER", inner)
                .constant("COLUMNS", self.columns)
                .constant("CHUNK", self.chunk)
                .constant("SPLITS", self.splits)
                .fused(fused),
            bindings,
            workgroups: gpu::spread_workgroups(self.splits * outer * inner.div_ceil(self.columns)),
        }
    }
}

/// The GPU pass that adds up the rows of a matrix `from`, `[rows, columns]`, in order: the sums, of type `sums`, of a split
/// sum.
pub(super) fn add_rows(rows: usize, sums: &TensorType, from: gpu::Binding, to: gpu::Binding) -> gpu::Pass {
    let parts = TensorType::f32([rows, sums.elements()]);
    let Reduce { reduction, .. } = Reduce::sum(&parts.shape, 0, 1, 1.0);
    let signature = Signature { inputs: vec![parts], outputs: vec![sums.clone()] };
    let width = reduction_width(&reduction, &signature.inputs);
    let (text, _) = reduction_module(&reduction, &signature, width, Pass::Whole);
    Grid::new(reduction.extents(), width).whole().pass(text, vec![from, to], false)
}

/// The operation that is this reduction, under this name: what fusion makes.
pub fn fused_reduction(name: String, reduction: Reduction) -> Arc<dyn DynOp> {
    Arc::new(Reduce::new(name, reduction))
}

impl Graph {
    /// Sum over `axes`, which must ascend; the axes disappear from the shape.
    ///
    /// # Errors
    /// If an axis does not exist.
    pub fn sum(&mut self, value: Value, axes: &[usize]) -> Result<Value, GraphError> {
        self.reduce(value, axes, false)
    }

    /// Mean over `axes`, which must ascend; the axes disappear from the shape.
    ///
    /// # Errors
    /// If an axis does not exist.
    pub fn mean(&mut self, value: Value, axes: &[usize]) -> Result<Value, GraphError> {
        self.reduce(value, axes, true)
    }

    fn reduce(&mut self, mut value: Value, axes: &[usize], mean: bool) -> Result<Value, GraphError> {
        // Runs of neighbouring axes, last first: what is summed away later keeps its position.
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for &axis in axes {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == axis => *count += 1,
                _ => runs.push((axis, 1)),
            }
        }
        for (first_axis, axes) in runs.into_iter().rev() {
            let n: usize = self.shape(value).iter().skip(first_axis).take(axes).product();
            let scale = if mean { 1.0 / n as f32 } else { 1.0 };
            value = self.apply1(Reduce::sum(&self.shape(value).clone(), first_axis, axes, scale), &[value])?;
        }
        Ok(value)
    }

    /// `value` summed over the axes along which `shape` was broadcast to it.
    ///
    /// # Errors
    /// If `shape` does not broadcast to the value's shape.
    pub fn sum_to_shape(&mut self, value: Value, shape: &Shape) -> Result<Value, GraphError> {
        let from = self.shape(value).clone();
        if from == *shape {
            return Ok(value);
        }
        let lead = from.rank() - shape.rank();
        let axes: Vec<usize> =
            (0..from.rank()).filter(|&axis| axis < lead || (shape[axis - lead] == 1 && from[axis] != 1)).collect();
        let sum = self.sum(value, &axes)?;
        self.reshape(sum, shape.clone())
    }

    /// `value` repeated along the axes in which it has extent 1 and `shape` has not.
    ///
    /// # Errors
    /// If the value does not broadcast to `shape`.
    pub fn broadcast_to(&mut self, value: Value, shape: &Shape) -> Result<Value, GraphError> {
        if self.shape(value) == shape {
            return Ok(value);
        }
        self.apply1(Broadcast { shape: shape.clone() }, &[value])
    }
}

/// Rows and columns of either parity, sums of one partial sum and of many, and more columns than one block.
const EXAMPLES: [(&[usize], &[usize]); 14] = [
    (&[7], &[0]),
    (&[70_000], &[0]),
    (&[70_001], &[0]),
    (&[5, 8], &[1]),
    (&[300, 3], &[1]),
    (&[6, 10], &[0]),
    (&[1000, 7], &[0]),
    (&[3000, 64], &[0]),
    (&[2000, 100], &[0]),
    (&[3, 4100], &[0]),
    (&[2, 5, 6, 8], &[1, 2]),
    (&[2, 5, 6, 7], &[0, 2]),
    (&[2, 3, 4], &[0, 1, 2]),
    (&[1, 4], &[0]),
];

/// Shapes and what they are repeated to.
const REPEATED: [(&[usize], &[usize]); 4] =
    [(&[3, 1, 4], &[3, 5, 4]), (&[4], &[2, 3, 4]), (&[2, 1, 1], &[2, 5, 3]), (&[], &[3, 2])];

pub(super) fn examples() -> Vec<Example> {
    let means = EXAMPLES.map(|(shape, axes)| Example::new([random(shape, 1)], move |g, v| g.mean(v[0], axes)));
    let repeated =
        REPEATED.map(|(from, to)| Example::new([random(from, 1)], move |g, v| g.broadcast_to(v[0], &Shape::from(to))));
    // Columns in vectors and not, rows folded into vectors, sums in two passes.
    let halves = [2, 5, 7, 10, 11].map(|at: usize| means[at].in_f16());
    let chains = [[300, 8], [300, 3]].map(|shape| {
        // What is converted on its way into the sums and out of them.
        Example::new([random(shape, 1).to_f16(), random([shape[1]], 2)], |graph, v| {
            let x = graph.cast(v[0], DType::F32)?;
            let x = graph.multiply(x, v[1])?;
            let mean = graph.mean(x, &[0])?;
            graph.cast(mean, DType::F16)
        })
    });
    let stretched = repeated[0].in_f16();
    means.into_iter().chain(repeated).chain(halves).chain(chains).chain([stretched]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    fn sum(axes: &[usize]) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> {
        move |graph, v| graph.sum(v[0], axes)
    }

    #[test]
    fn equals_the_definition() {
        for (shape, axes) in EXAMPLES {
            let x = check::random(shape, 1);
            let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
            let output = Shape::from(kept.iter().map(|&axis| shape[axis]).collect::<Vec<_>>());
            let strides = Shape::from(shape).strides();
            // The sums and, as what rounding errors are relative to, the sums of the absolute values.
            let mut expected = vec![[0.0f64; 2]; output.elements()];
            for (at, value) in x.as_f32().unwrap().iter().map(|x| f64::from(*x)).enumerate() {
                let axes = kept.iter().zip(output.strides());
                let to: usize = axes.map(|(&axis, stride)| at / strides[axis] % shape[axis] * stride).sum();
                expected[to][0] += value;
                expected[to][1] += value.abs();
            }
            let y = check::evaluate(&[x], sum(axes));
            assert_eq!(y.shape(), &output);
            for (got, [sum, magnitude]) in y.as_f32().unwrap().iter().zip(expected) {
                assert!((f64::from(*got) - sum).abs() <= 1e-6 * magnitude, "{shape:?} {axes:?}: {got} for {sum}");
            }
        }
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn long_sums_keep_their_precision() {
        // Additions in a row: 256 in a lane, 64 lanes, 256 partial sums.
        let (n, additions) = (1 << 22, 256.0 + 64.0 + 256.0);
        let sum = check::evaluate(&[Tensor::f32([n], vec![0.1; n])], sum(&[0]));
        let error = f64::from(sum.as_f32().unwrap()[0]) / (f64::from(0.1f32) * n as f64) - 1.0;
        assert!(error.abs() < f64::from(additions * f32::EPSILON / 2.0), "off by {error:.1e}");
    }

    #[test]
    fn a_value_that_was_repeated_is_summed_back() {
        for (from, to) in REPEATED {
            let reduce = |graph: &mut Graph, v: &[Value]| graph.sum_to_shape(v[0], &Shape::from(from));
            check::gradients(&[check::random(to, 1)], reduce);
        }
    }
}
