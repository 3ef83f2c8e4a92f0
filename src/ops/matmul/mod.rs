//! Matrix product, of one pair of matrices or of a batch of pairs.

mod cpu;
mod examples;
mod gpu;
mod scratch;
#[cfg(test)]
mod tests;

pub(super) use examples::examples;
pub(in crate::ops) use scratch::between_scratch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, DynOp, Graph, GraphError, Op, Reader, ShapeError, Value},
    kernel::{self, Expr, Signature},
    ops::pointwise::common_float,
    tensor::{Real, Shape, TensorType},
};

/// `y = op(a) op(b)` for each pair of matrices, where `op` transposes or not, then the epilogue of each element. Inputs:
/// a, b, both f32 or both f16, and what the epilogue reads besides. Sums are in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatMul {
    transpose_a: bool,
    transpose_b: bool,
    /// Applied to each element before it is stored: `Input(0)` is the element, `Input(n)` is input `n + 1`.
    epilogue: Option<Expr>,
}

/// A factor of a matrix product: a value, as it is or with its last two dimensions exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    value: Value,
    transposed: bool,
}

impl From<Value> for Factor {
    fn from(value: Value) -> Self {
        Self { value, transposed: false }
    }
}

impl Value {
    /// As a factor with its last two dimensions exchanged: see [`Graph::matmul`].
    pub fn t(self) -> Factor {
        self.t_if(true)
    }

    /// As [`Value::t`] where `transposed`, else as it is.
    pub fn t_if(self, transposed: bool) -> Factor {
        Factor { value: self, transposed }
    }
}

/// What the kernels compute: `batch` products of `[m, k]` with `[k, n]`, each stored transposed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct Product {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub transpose_a: bool,
    pub transpose_b: bool,
}

impl Product {
    /// Whether the stored rows of each factor are whole vec4s.
    fn vectors(&self) -> [bool; 2] {
        let row_a = if self.transpose_a { self.m } else { self.k };
        let row_b = if self.transpose_b { self.k } else { self.n };
        [row_a.is_multiple_of(4), row_b.is_multiple_of(4)]
    }

    /// Loads that four elements of each factor take.
    fn loads(&self) -> [usize; 2] {
        self.vectors().map(|vectors| if vectors { 1 } else { 4 })
    }
}

/// The extents of the last two dimensions, the other way round if `transposed`, and the dimensions before them.
fn split(ty: &TensorType, transposed: bool) -> Result<(&[usize], usize, usize), ShapeError> {
    match &ty.shape[..] {
        [lead @ .., rows, columns] if ty.dtype.is_float() && ty.elements() > 0 => {
            let (rows, columns) = if transposed { (*columns, *rows) } else { (*rows, *columns) };
            Ok((lead, rows, columns))
        }
        _ => Err(ShapeError::new(format!("a factor must be a matrix of f32 or f16 or a batch of them, not {ty}"))),
    }
}

impl MatMul {
    /// The product and the shape of its result.
    fn product(&self, a: &TensorType, b: &TensorType) -> Result<(Product, Shape), ShapeError> {
        let (lead, m, k) = split(a, self.transpose_a)?;
        let (lead_b, rows_b, n) = split(b, self.transpose_b)?;
        if k != rows_b {
            return Err(ShapeError::new(format!("the first factor has {k} columns, but the second {rows_b} rows")));
        }
        let shape = Shape::from([lead, &[m, n]].concat());
        let (transpose_a, transpose_b) = (self.transpose_a, self.transpose_b);
        let lead_elements = lead.iter().product();
        if lead == lead_b {
            return Ok((Product { batch: lead_elements, m, n, k, transpose_a, transpose_b }, shape));
        }
        // One second factor for all: the batch is more rows of one product.
        if lead_b.is_empty() && !transpose_a {
            return Ok((Product { batch: 1, m: lead_elements * m, n, k, transpose_a, transpose_b }, shape));
        }
        Err(ShapeError::new(format!(
            "batches {lead:?} and {lead_b:?} differ; the second factor may lack a batch where the first is not transposed"
        )))
    }

    fn known(&self, signature: &Signature) -> Product {
        self.product(&signature.inputs[0], &signature.inputs[1]).expect("the shape rule accepted these types").0
    }
}

impl Op for MatMul {
    fn name(&self) -> &str {
        "matmul"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("matmul", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [a, b, extra @ ..] = inputs else {
            return Err(ShapeError::new(format!("expects two factors, got {} values", inputs.len())));
        };
        let (_, shape) = self.product(a, b)?;
        let dtype = common_float(&[a, b])?;
        if self.epilogue.is_none() && !extra.is_empty() {
            return Err(ShapeError::new(format!("expects 2 inputs, got {}", inputs.len())));
        }
        if self.epilogue.as_ref().is_some_and(|expr| expr.inputs() > 1 + extra.len()) {
            return Err(ShapeError::new("the epilogue reads more inputs than there are"));
        }
        if let Some(other) = extra.iter().find(|e| e.shape.broadcast(&shape).as_ref() != Some(&shape)) {
            return Err(ShapeError::new(format!("{other} does not broadcast to the product {shape}")));
        }
        Ok(vec![TensorType { dtype, shape }])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.epilogue.is_some() {
            return Err(backward.not_differentiable(self.name()));
        }
        let (dy, a, b) = (backward.grad(), backward.inputs[0], backward.inputs[1]);
        let (shape_a, shape_b) = (backward.input_shape(0), backward.input_shape(1));
        let graph = &mut *backward.graph;
        let da = match self.transpose_a {
            false => graph.matmul(dy, b.t_if(!self.transpose_b))?,
            true => graph.matmul(b.t_if(self.transpose_b), dy.t())?,
        };
        // A second factor that the batch shares takes the gradient of all rows as one product.
        let (a, dy) = match shape_b.rank() < shape_a.rank() {
            true => (rows(graph, a)?, rows(graph, dy)?),
            false => (a, dy),
        };
        let db = match self.transpose_b {
            false => graph.matmul(a.t_if(!self.transpose_a), dy)?,
            true => graph.matmul(dy.t(), a.t_if(self.transpose_a))?,
        };
        Ok(vec![Some(da), Some(db)])
    }

    fn absorb(&self, reader: Reader<'_>) -> Option<Arc<dyn DynOp>> {
        let Reader::Pointwise(epilogue) = reader else { return None };
        if self.epilogue.is_some() {
            return None;
        }
        Some(Arc::new(Self { epilogue: Some(epilogue.clone()), ..self.clone() }))
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let Product { batch, m, n, k, .. } = self.known(signature);
        let per_element = 2 * k as u64 + self.epilogue.as_ref().map_or(0, Expr::operations);
        (batch * m * n) as u64 * per_element
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        cpu::scratch(&self.known(signature))
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        let (product, _) =
            self.product(args.inputs.ty(0), args.inputs.ty(1)).expect("the shape rule accepted these types");
        cpu::run(&product, self.epilogue.as_ref(), args);
    }

    fn gpu(&self, signature: &Signature, limits: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        gpu::candidates(&self.known(signature), self.epilogue.as_ref(), signature, limits)
    }
}

/// `value` as one matrix with the innermost dimension as its columns.
fn rows(graph: &mut Graph, value: Value) -> Result<Value, GraphError> {
    let shape = graph.shape(value);
    let columns = shape.last();
    let rows = shape.iter().take(shape.rank() - 1).product();
    graph.reshape(value, [rows, columns])
}

impl Graph {
    /// Matrix product of `a` `[.., m, k]` and `b` `[.., k, n]`: `[.., m, n]`. A factor that is stored the other way round
    /// is given transposed, as in `graph.matmul(a.t(), b)`, which moves nothing. The dimensions before the last two are
    /// the same for both, or `b` has none and, `a` not being transposed, serves all.
    ///
    /// # Errors
    /// If a factor is not a matrix of f32 or f16, the two differ in that, or the extents do not match.
    pub fn matmul(&mut self, a: impl Into<Factor>, b: impl Into<Factor>) -> Result<Value, GraphError> {
        let (a, b) = (a.into(), b.into());
        let op = MatMul { transpose_a: a.transposed, transpose_b: b.transposed, epilogue: None };
        self.apply1(op, &[a.value, b.value])
    }

    /// Dense layer without a bias: `x` `[batch, in]` times `weight` `[in, out]` is `[batch, out]`. A bias is added with
    /// [`Graph::add`].
    ///
    /// # Errors
    /// If the extents do not match.
    pub fn dense(&mut self, x: Value, weight: Value) -> Result<Value, GraphError> {
        self.matmul(x, weight)
    }
}
