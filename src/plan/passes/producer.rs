//! What a pointwise operation computes, and the operations that compute it inside of themselves: what both fusions with
//! producers share.

use std::sync::Arc;

use crate::{
    graph::{DynOp, Value},
    kernel::{Expr, Reduction, gpu::MAX_BINDINGS},
    ops,
    plan::ir::Ir,
};

/// Operations of fused expressions at most: what occurs several times in one is written out as often.
const MAX_OPERATIONS: u64 = 64;

/// Operations that an element may cost where each of its readers computes it again.
const MAX_RECOMPUTED: u64 = 12;

/// Values that a fused operation reads, each once.
#[derive(Default)]
struct Inputs(Vec<Value>);

impl Inputs {
    fn number(&mut self, value: Value) -> usize {
        self.0.iter().position(|v| *v == value).unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        })
    }
}

/// A pointwise computation that readers of `value` may take in.
pub(super) struct Producer {
    pub value: Value,
    pub name: String,
    pub expr: Expr,
    pub inputs: Vec<Value>,
}

/// What a node becomes that has taken a producer in.
pub(super) struct Fused {
    pub op: Arc<dyn DynOp>,
    pub inputs: Vec<Value>,
}

impl Producer {
    /// What node `at` computes, where that is pointwise.
    pub fn of(ir: &Ir, at: usize) -> Option<Self> {
        let op = ir.nodes[at].op()?;
        let (name, inputs) = (op.name().to_string(), ir.nodes[at].inputs.clone());
        Some(Self { value: Value { node: at, output: 0 }, name, expr: op.pointwise()?, inputs })
    }

    /// Whether it may be computed again in each reader.
    pub fn is_cheap(&self) -> bool {
        self.expr.operations() <= MAX_RECOMPUTED && !self.expr.is_transcendental()
    }

    /// The same computation with its inputs computed inside of it, where these are pointwise themselves, cheap, and of
    /// its shape.
    pub fn deepened(&self, ir: &Ir) -> Self {
        let mut inputs = Inputs::default();
        let expr = self.expr.substitute(&mut |n| {
            let input = self.inputs[n];
            let inner = Producer::of(ir, input.node)
                .filter(|inner| inner.is_cheap() && ir.shape(input) == ir.shape(self.value));
            match inner {
                Some(inner) => inner.expr.substitute(&mut |m| Expr::Input(inputs.number(inner.inputs[m]))),
                None => Expr::Input(inputs.number(input)),
            }
        });
        Self { value: self.value, name: self.name.clone(), expr, inputs: inputs.0 }
    }

    /// Node `at` with this computed inside of it; `None` where that cannot be.
    pub fn inside(&self, ir: &Ir, at: usize) -> Option<Fused> {
        let node = &ir.nodes[at];
        let op = node.op()?;
        // What only repeats elements leaves no trace in the name.
        let name = match op.name() {
            name if self.expr.operations() == 0 => name.to_string(),
            name => format!("{}+{name}", self.name),
        };
        let mut inputs = Inputs::default();
        let mut read = |n: usize| match node.inputs[n] {
            input if input == self.value => self.expr.substitute(&mut |m| Expr::Input(inputs.number(self.inputs[m]))),
            input => Expr::Input(inputs.number(input)),
        };
        if let Some(expr) = op.pointwise().filter(|_| node.types[0].shape == *ir.shape(self.value)) {
            let expr = expr.substitute(&mut read);
            let Inputs(inputs) = inputs;
            if inputs.is_empty() || inputs.len() + 1 > MAX_BINDINGS || expr.operations() > MAX_OPERATIONS {
                return None;
            }
            return Some(Fused { op: ops::fused_pointwise(name, inputs.len(), expr), inputs });
        }
        let reduction = op.reduction().filter(|reduction| reduction.shape == *ir.shape(self.value))?;
        let mut is_finish = (0..node.inputs.len()).filter(|n| reduction.finishes_with(*n));
        if is_finish.any(|n| node.inputs[n] == self.value) {
            return None;
        }
        let terms: Vec<Expr> = reduction.terms.iter().map(|term| term.substitute(&mut read)).collect();
        let sums = terms.len();
        let mut finish = |n: usize| match n.checked_sub(sums) {
            Some(input) => Expr::Input(sums + inputs.number(node.inputs[input])),
            None => Expr::Input(n),
        };
        let outputs = reduction.outputs.iter().map(|output| output.substitute(&mut finish)).collect();
        let reduction = Reduction { terms, outputs, ..reduction.clone() };
        let Inputs(inputs) = inputs;
        let operations: u64 = reduction.terms.iter().map(Expr::operations).sum();
        if inputs.is_empty() || reduction.bindings(inputs.len()) > MAX_BINDINGS || operations > MAX_OPERATIONS {
            return None;
        }
        Some(Fused { op: ops::fused_reduction(name, reduction), inputs })
    }
}
