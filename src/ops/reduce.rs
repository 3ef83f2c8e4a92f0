use rayon::prelude::*;

use super::columns::{LANES, fold, for_lanes, rows_of_part};
use crate::{
    graph::{Backward, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Expr, Signature, cpu, gpu},
    tensor::{DType, Real, Shape, TensorType},
};

/// Sum over neighbouring axes, times a scale: with the scale 1/n it is the mean.
#[derive(Clone, Debug, PartialEq)]
struct Sum {
    first_axis: usize,
    axes: usize,
    scale: f32,
}

/// Repeats a value along the axes in which its extent is 1.
#[derive(Clone, Debug, PartialEq)]
struct Broadcast {
    shape: Shape,
}

impl Op for Broadcast {
    fn name(&self) -> &str {
        "broadcast"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        if input.dtype != DType::F32 || input.shape.broadcast(&self.shape).as_ref() != Some(&self.shape) {
            return Err(ShapeError::new(format!("{input} does not broadcast to {}", self.shape)));
        }
        Ok(vec![TensorType::f32(self.shape.clone())])
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

/// A tensor seen as `[outer, n, inner]` with `n` the elements that are added up.
#[derive(Clone, Copy, Debug)]
struct Extents {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Sum {
    fn extents(&self, shape: &Shape) -> Extents {
        let end = self.first_axis + self.axes;
        Extents {
            outer: shape[..self.first_axis].iter().product(),
            n: shape[self.first_axis..end].iter().product(),
            inner: shape[end..].iter().product(),
        }
    }
}

impl Op for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        let end = self.first_axis + self.axes;
        if input.dtype != DType::F32 || end > input.shape.rank() {
            return Err(ShapeError::new(format!("cannot sum axes {}..{end} of {input}", self.first_axis)));
        }
        let kept: Vec<usize> = [&input.shape[..self.first_axis], &input.shape[end..]].concat();
        Ok(vec![TensorType::f32(kept)])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let shape = backward.input_shape(0);
        let dy = backward.grad();
        let mut stretched = shape.to_vec();
        stretched[self.first_axis..self.first_axis + self.axes].fill(1);
        let dy = backward.graph.reshape(dy, stretched)?;
        let dy = if self.scale == 1.0 { dy } else { backward.graph.scale(dy, self.scale.into())? };
        Ok(vec![Some(backward.graph.broadcast_to(dy, &shape)?)])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        signature.inputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        let extents = self.extents(&signature.inputs[0].shape);
        match extents.parts() {
            1 => 0,
            parts => extents.outer * parts * extents.inner,
        }
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let extents = self.extents(&args.inputs.ty(0).shape);
        let (input, output) = (args.inputs.float(0), args.outputs.float(0));
        let scale = T::from_f32(self.scale);
        if extents.parts() == 1 {
            extents.add_up(input, output);
            output.par_iter_mut().with_min_len(1 << 14).for_each(|sum| *sum *= scale);
            return;
        }
        extents.add_up(input, args.scratch);
        let partial = args.scratch.par_chunks(extents.parts() * extents.inner);
        output.par_chunks_mut(extents.inner).zip(partial).for_each(|(sums, partial)| {
            sums.fill(T::ZERO);
            for part in partial.chunks_exact(extents.inner) {
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += *part);
            }
            sums.iter_mut().for_each(|sum| *sum *= scale);
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output, Scratch, ScratchRead};
        let grid = Grid::new(self.extents(&signature.inputs[0].shape));
        if grid.splits == 1 {
            return vec![gpu::Candidate::single(grid.name(), grid.pass(self.scale, vec![Input(0), Output(0)]))];
        }
        let merge = grid.merge();
        vec![gpu::Candidate {
            name: grid.name(),
            passes: vec![
                grid.pass(1.0, vec![Input(0), Scratch(0)]),
                merge.pass(self.scale, vec![ScratchRead(0), Output(0)]),
            ],
            scratch: vec![grid.splits * signature.outputs[0].elements()],
        }]
    }
}

impl Extents {
    /// Columns that one CPU task adds up.
    fn columns(&self) -> usize {
        self.inner.clamp(1, 1 << 12)
    }

    /// Terms of a partial sum on the CPU.
    fn rows(&self) -> usize {
        rows_of_part(self.columns())
    }

    /// Partial sums of each sum on the CPU.
    fn parts(&self) -> usize {
        self.n.div_ceil(self.rows()).max(1)
    }

    /// Partial sums `[outer, parts, inner]` of `input`.
    fn add_up<T: Real>(&self, input: &[T], sums: &mut [T]) {
        let Extents { n, inner, .. } = *self;
        let parts = self.parts();
        // Sums of few terms are not worth a task each.
        let least = (1 << 14) / (n.min(self.rows()) * inner).max(1);
        sums.par_chunks_mut(inner).with_min_len(least.max(1)).enumerate().for_each(|(at, sums)| {
            let (o, first) = (at / parts, at % parts * self.rows());
            let rows = &input[(o * n + first) * inner..(o * n + n.min(first + self.rows())) * inner];
            sums.par_chunks_mut(self.columns()).enumerate().for_each(|(block, sums)| {
                cpu::vectorised(
                    #[inline(always)]
                    || add_rows(rows, inner, block * self.columns(), sums),
                );
            });
        });
    }
}

/// `sums[j]` becomes the sum over rows of `rows[row, first + j]`.
#[inline(always)]
fn add_rows<T: Real>(rows: &[T], inner: usize, first: usize, sums: &mut [T]) {
    for (at, sums) in sums.chunks_mut(LANES).enumerate() {
        let mut lanes = [T::ZERO; LANES];
        for_lanes([rows], inner, first + at * LANES, |[row]| {
            lanes.iter_mut().zip(row).for_each(|(lane, value)| *lane += *value);
        });
        fold(&lanes, sums);
    }
}

/// How a GPU takes a sum apart, counted in Elements of `vector` floats: a workgroup of 256 owns `columns`
/// neighbours of one outer index and one split, which takes `chunk` terms.
#[derive(Clone, Copy, Debug)]
struct Grid {
    extents: Extents,
    vector: usize,
    /// The four floats of an Element are terms of one sum, not columns.
    fold: bool,
    columns: usize,
    chunk: usize,
    splits: usize,
}

impl Grid {
    /// Few long sums are split, so that enough workgroups run; each invocation keeps at least 16 terms.
    fn new(Extents { outer, n, inner }: Extents) -> Self {
        let fold = inner == 1 && n.is_multiple_of(4);
        let vector = if fold || inner.is_multiple_of(4) { 4 } else { 1 };
        let (n, inner) = if fold { (n / 4, 1) } else { (n, inner / vector) };
        let columns = inner.next_power_of_two().min(if vector == 4 { 32 } else { 64 });
        let useful = n.div_ceil(16 * 256 / columns).max(1);
        let splits = 512usize.div_ceil(outer * inner.div_ceil(columns)).min(useful).min(256);
        let chunk = n.div_ceil(splits).max(1);
        Self { extents: Extents { outer, n, inner }, vector, fold, columns, chunk, splits: n.div_ceil(chunk).max(1) }
    }

    /// The sum of this one's splits.
    fn merge(&self) -> Self {
        let Extents { outer, inner, .. } = self.extents;
        let extents = Extents { outer: 1, n: self.splits, inner: outer * inner };
        let vector = if self.fold { 1 } else { self.vector };
        let columns = extents.inner.next_power_of_two().min(8);
        Self { extents, vector, fold: false, columns, chunk: self.splits, splits: 1 }
    }

    fn pass(&self, scale: f32, bindings: Vec<gpu::Binding>) -> gpu::Pass {
        let Extents { outer, n, inner } = self.extents;
        gpu::Pass {
            shader: gpu::Shader::file("reduce/sum")
                .feature("VECTOR", self.vector == 4)
                .feature("FOLD", self.fold)
                .constant("OUTER", outer)
                .constant("N", n)
                .constant("INNER", inner)
                .constant("COLUMNS", self.columns)
                .constant("CHUNK", self.chunk)
                .constant("SPLITS", self.splits)
                .constant("SCALE", scale),
            bindings,
            workgroups: gpu::spread_workgroups(self.splits * outer * inner.div_ceil(self.columns)),
        }
    }

    fn name(&self) -> String {
        match self.splits {
            1 => format!("sum x{}", self.vector),
            splits => format!("sum x{} split {splits}", self.vector),
        }
    }
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
            value = self.apply1(Sum { first_axis, axes, scale }, &[value])?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    /// Rows and columns of either parity, sums of one partial sum and of many, and more columns than one block.
    const CASES: [(&[usize], &[usize]); 14] = [
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

    fn apply(axes: &[usize], mean: bool) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> {
        move |graph, v| if mean { graph.mean(v[0], axes) } else { graph.sum(v[0], axes) }
    }

    #[test]
    fn equals_the_definition() {
        for (shape, axes) in CASES {
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
            let y = check::evaluate(&[x], apply(axes, false));
            assert_eq!(y.shape(), &output);
            for (got, [sum, magnitude]) in y.as_f32().unwrap().iter().zip(expected) {
                assert!((f64::from(*got) - sum).abs() <= 1e-6 * magnitude, "{shape:?} {axes:?}: {got} for {sum}");
            }
        }
    }

    #[test]
    fn gradients() {
        for (shape, axes) in CASES {
            check::gradients(&[check::random(shape, 1)], apply(axes, true));
        }
    }

    #[test]
    fn shaders() {
        for (shape, axes) in CASES {
            check::gpu_matches_cpu(&[check::random(shape, 1)], apply(axes, true));
        }
    }

    #[test]
    fn long_sums_keep_their_precision() {
        // Additions in a row: 256 in a lane, 64 lanes, 256 partial sums.
        let (n, additions) = (1 << 22, 256.0 + 64.0 + 256.0);
        let sum = check::evaluate(&[Tensor::f32([n], vec![0.1; n])], apply(&[0], false));
        let error = f64::from(sum.as_f32().unwrap()[0]) / (f64::from(0.1f32) * n as f64) - 1.0;
        assert!(error.abs() < f64::from(additions * f32::EPSILON / 2.0), "off by {error:.1e}");
    }

    #[test]
    fn a_value_is_repeated_and_summed_back() {
        for (from, to) in
            [(&[3, 1, 4][..], &[3, 5, 4][..]), (&[4], &[2, 3, 4]), (&[2, 1, 1], &[2, 5, 3]), (&[], &[3, 2])]
        {
            let build = |graph: &mut Graph, v: &[Value]| graph.broadcast_to(v[0], &Shape::from(to));
            check::gradients(&[check::random(from, 1)], build);
            check::gpu_matches_cpu(&[check::random(from, 1)], build);
            let reduce = |graph: &mut Graph, v: &[Value]| graph.sum_to_shape(v[0], &Shape::from(from));
            check::gradients(&[check::random(to, 1)], reduce);
        }
    }
}
