//! The CPU evaluation of pointwise expressions: block by block, one vectorised loop for each function.

use std::ops::Range;

use super::{
    Access,
    cpu::vectorised,
    expr::{Binary, Expr, Unary},
};
use crate::tensor::{Real, Shape};

/// Elements of a block: small enough that all intermediate values stay in the first-level cache.
pub const BLOCK: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operand {
    Input(usize),
    Register(usize),
    Constant(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Unary(Unary, Operand),
    Binary(Binary, Operand, Operand),
    Select(Operand, Operand, Operand),
}

/// Pointwise expressions made ready for inputs and an output of given shapes. What occurs twice is computed once.
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// Each step with the register that it writes.
    steps: Vec<(Step, usize)>,
    results: Vec<Operand>,
    registers: usize,
    accesses: Vec<Access>,
}

/// What one thread needs to evaluate: a block for each register, and one for each input that is not read as it lies.
pub struct Workspace<T> {
    registers: Vec<Vec<T>>,
    gathered: Vec<Gathered<T>>,
    constant: Vec<T>,
}

/// A block of an input in the order of the output's elements.
struct Gathered<T> {
    values: Vec<T>,
    /// Where in its period a periodic input's block begins and how much of it is there: the next block is often the same.
    phase: usize,
    filled: usize,
}

/// The values of an operand for one block.
#[derive(Clone, Copy)]
enum View<'a, T> {
    Slice(&'a [T]),
    Constant(T),
}

impl Step {
    fn operands(&mut self) -> impl Iterator<Item = &mut Operand> {
        let operands = match self {
            Step::Unary(_, a) => [Some(a), None, None],
            Step::Binary(_, a, b) => [Some(a), Some(b), None],
            Step::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        operands.into_iter().flatten()
    }
}

/// Appends those steps of `expr` that are not in `steps` yet, each writing the register of its own number, and returns
/// where the value is.
fn compile(expr: &Expr, steps: &mut Vec<Step>) -> Operand {
    let step = match expr {
        Expr::Input(n) => return Operand::Input(*n),
        Expr::Constant(c) => return Operand::Constant(*c),
        Expr::Unary(f, a) => Step::Unary(*f, compile(a, steps)),
        Expr::Binary(f, a, b) => Step::Binary(*f, compile(a, steps), compile(b, steps)),
        Expr::Select(c, a, b) => Step::Select(compile(c, steps), compile(a, steps), compile(b, steps)),
    };
    let found = steps.iter().position(|s| *s == step);
    Operand::Register(found.unwrap_or_else(|| {
        steps.push(step);
        steps.len() - 1
    }))
}

/// Renumbers the registers so that one is written again once its value has been read for the last time, but never by a
/// step that reads it. Returns the register of each step and their number.
fn share_registers(steps: &mut [Step], results: &mut [Operand]) -> (Vec<usize>, usize) {
    let mut last_use: Vec<usize> = (0..steps.len()).collect();
    for (at, step) in steps.iter_mut().enumerate() {
        for operand in step.operands() {
            if let Operand::Register(r) = operand {
                last_use[*r] = at;
            }
        }
    }
    for result in results.iter() {
        if let Operand::Register(r) = result {
            last_use[*r] = usize::MAX;
        }
    }
    let (mut register_of, mut free, mut registers) = (vec![0; steps.len()], Vec::new(), 0);
    for (at, step) in steps.iter_mut().enumerate() {
        register_of[at] = free.pop().unwrap_or_else(|| {
            registers += 1;
            registers - 1
        });
        for operand in step.operands() {
            if let Operand::Register(r) = operand {
                if last_use[*r] == at {
                    last_use[*r] = usize::MAX;
                    free.push(register_of[*r]);
                }
                *r = register_of[*r];
            }
        }
    }
    for result in results {
        if let Operand::Register(r) = result {
            *r = register_of[*r];
        }
    }
    (register_of, registers)
}

impl Evaluator {
    /// Prepares `expr` over inputs that broadcast to `output`.
    pub fn new(expr: &Expr, inputs: &[&Shape], output: &Shape) -> Self {
        Self::several(std::slice::from_ref(expr), inputs, output)
    }

    /// Prepares several expressions over the same inputs.
    pub fn several(exprs: &[Expr], inputs: &[&Shape], output: &Shape) -> Self {
        let mut steps = Vec::new();
        let mut results: Vec<Operand> = exprs.iter().map(|expr| compile(expr, &mut steps)).collect();
        let (register_of, registers) = share_registers(&mut steps, &mut results);
        let is_read = |n: usize| exprs.iter().any(|expr| expr.uses(n) > 0);
        let access = |(n, shape): (usize, &&Shape)| if is_read(n) { Access::of(shape, output) } else { Access::Scalar };
        let accesses = inputs.iter().enumerate().map(access).collect();
        Self { steps: steps.into_iter().zip(register_of).collect(), results, registers, accesses }
    }

    /// Working memory for one thread.
    pub fn workspace<T: Real>(&self) -> Workspace<T> {
        let gathered = |access: &Access| match access {
            Access::Full | Access::Scalar => Vec::new(),
            Access::Periodic(_) | Access::Strided(_) => vec![T::ZERO; BLOCK],
        };
        let gathered = |access| Gathered { values: gathered(access), phase: 0, filled: 0 };
        Workspace {
            registers: vec![vec![T::ZERO; BLOCK]; self.registers],
            gathered: self.accesses.iter().map(gathered).collect(),
            constant: Vec::new(),
        }
    }

    /// Computes the window `output` of the first expression's values, whose first element has flat index `first`. An
    /// input that is `None` is the window's own content before the call.
    pub fn run<T: Real>(&self, inputs: &[Option<&[T]>], output: &mut [T], first: usize) {
        self.run_in(&mut self.workspace(), inputs, output, first);
    }

    /// [`Evaluator::run`] in working memory that is at hand.
    pub fn run_in<T: Real>(
        &self,
        workspace: &mut Workspace<T>,
        inputs: &[Option<&[T]>],
        output: &mut [T],
        first: usize,
    ) {
        for (at, block) in output.chunks_mut(BLOCK).enumerate() {
            let (start, len) = (first + at * BLOCK, block.len());
            self.gather(workspace, inputs, start, len);
            vectorised(
                #[inline(always)]
                || {
                    self.compute(workspace, inputs, block, start, len);
                    match self.results[0] {
                        Operand::Input(n) if inputs[n].is_none() => {}
                        result => match self.view(result, workspace, inputs, &[], start, len) {
                            View::Slice(values) => block.copy_from_slice(values),
                            View::Constant(value) => block.fill(value),
                        },
                    }
                },
            );
        }
    }

    /// Computes the elements of flat indices `range`, in blocks of `block` elements, at most [`BLOCK`], and calls
    /// `body` with the number of each expression and its values.
    pub fn for_blocks<T: Real>(
        &self,
        workspace: &mut Workspace<T>,
        inputs: &[Option<&[T]>],
        range: Range<usize>,
        block: usize,
        mut body: impl FnMut(usize, &[T]),
    ) {
        for start in range.clone().step_by(block) {
            let len = block.min(range.end - start);
            self.gather(workspace, inputs, start, len);
            vectorised(
                #[inline(always)]
                || {
                    self.compute(workspace, inputs, &[], start, len);
                    for (at, result) in self.results.iter().enumerate() {
                        match self.view(*result, workspace, inputs, &[], start, len) {
                            View::Slice(values) => body(at, values),
                            View::Constant(value) => {
                                workspace.constant.clear();
                                workspace.constant.resize(len, value);
                                body(at, &workspace.constant);
                            }
                        }
                    }
                },
            );
        }
    }

    fn gather<T: Real>(&self, workspace: &mut Workspace<T>, inputs: &[Option<&[T]>], start: usize, len: usize) {
        for ((gathered, access), input) in workspace.gathered.iter_mut().zip(&self.accesses).zip(inputs) {
            if let Some(input) = input {
                gathered.fill(access, input, start, len);
            }
        }
    }

    #[inline(always)]
    fn compute<T: Real>(
        &self,
        workspace: &mut Workspace<T>,
        inputs: &[Option<&[T]>],
        own: &[T],
        start: usize,
        len: usize,
    ) {
        for (step, register) in &self.steps {
            let mut out = std::mem::take(&mut workspace.registers[*register]);
            {
                let view = |operand: Operand| self.view(operand, workspace, inputs, own, start, len);
                let out = &mut out[..len];
                match *step {
                    Step::Unary(f, a) => unary(f, view(a), out),
                    Step::Binary(f, a, b) => binary(f, view(a), view(b), out),
                    Step::Select(c, a, b) => select(view(c), view(a), view(b), out),
                }
            }
            workspace.registers[*register] = out;
        }
    }

    #[inline(always)]
    fn view<'a, T: Real>(
        &self,
        operand: Operand,
        workspace: &'a Workspace<T>,
        inputs: &[Option<&'a [T]>],
        own: &'a [T],
        start: usize,
        len: usize,
    ) -> View<'a, T> {
        match operand {
            Operand::Constant(c) => View::Constant(T::from_f64(c)),
            Operand::Register(r) => View::Slice(&workspace.registers[r][..len]),
            Operand::Input(n) => match (&self.accesses[n], inputs[n]) {
                (_, None) => View::Slice(own),
                (Access::Full, Some(input)) => View::Slice(&input[start..start + len]),
                (Access::Scalar, Some(input)) => View::Constant(input[0]),
                _ => View::Slice(&workspace.gathered[n].values[..len]),
            },
        }
    }
}

impl<T: Real> Gathered<T> {
    /// Copies the elements of `input` that belong to `len` elements of the output from `start` on.
    fn fill(&mut self, access: &Access, input: &[T], start: usize, len: usize) {
        match access {
            Access::Full | Access::Scalar => {}
            Access::Periodic(period) => {
                let mut at = start % period;
                if at == self.phase && len <= self.filled {
                    return;
                }
                (self.phase, self.filled) = (at, len);
                let mut filled = 0;
                while filled < len {
                    let run = (period - at).min(len - filled);
                    self.values[filled..filled + run].copy_from_slice(&input[at..at + run]);
                    filled += run;
                    at = 0;
                }
            }
            Access::Strided(axes) => {
                let (extent, stride) = axes.last().copied().unwrap_or((1, 0));
                let mut filled = 0;
                while filled < len {
                    // Along the innermost axis the elements follow each other.
                    let at = start + filled;
                    let run = (extent - at % extent).min(len - filled);
                    let first = access.index(at);
                    for (offset, value) in self.values[filled..filled + run].iter_mut().enumerate() {
                        *value = input[first + offset * stride];
                    }
                    filled += run;
                }
            }
        }
    }
}

#[inline(always)]
fn map1<T: Real>(a: View<'_, T>, out: &mut [T], f: impl Fn(T) -> T) {
    match a {
        View::Slice(a) => out.iter_mut().zip(a).for_each(|(o, a)| *o = f(*a)),
        View::Constant(a) => out.fill(f(a)),
    }
}

#[inline(always)]
fn map2<T: Real>(a: View<'_, T>, b: View<'_, T>, out: &mut [T], f: impl Fn(T, T) -> T) {
    match (a, b) {
        (View::Slice(a), View::Slice(b)) => out.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| *o = f(*a, *b)),
        (View::Slice(a), View::Constant(b)) => out.iter_mut().zip(a).for_each(|(o, a)| *o = f(*a, b)),
        (View::Constant(a), View::Slice(b)) => out.iter_mut().zip(b).for_each(|(o, b)| *o = f(a, *b)),
        (View::Constant(a), View::Constant(b)) => out.fill(f(a, b)),
    }
}

#[inline(always)]
fn unary<T: Real>(function: Unary, a: View<'_, T>, out: &mut [T]) {
    match function {
        Unary::Neg => map1(a, out, |a| -a),
        Unary::Exp => map1(a, out, T::exp),
        Unary::Ln => map1(a, out, T::ln),
        Unary::Sqrt => map1(a, out, T::sqrt),
        Unary::Tanh => map1(a, out, T::tanh),
        Unary::Erf => map1(a, out, T::erf),
        Unary::Abs => map1(a, out, T::abs),
        Unary::IsFinite => map1(a, out, |a| if a.is_finite() { T::ONE } else { T::ZERO }),
    }
}

#[inline(always)]
fn binary<T: Real>(function: Binary, a: View<'_, T>, b: View<'_, T>, out: &mut [T]) {
    match function {
        Binary::Add => map2(a, b, out, |a, b| a + b),
        Binary::Sub => map2(a, b, out, |a, b| a - b),
        Binary::Mul => map2(a, b, out, |a, b| a * b),
        Binary::Div => map2(a, b, out, |a, b| a / b),
        Binary::Max => map2(a, b, out, T::max),
        Binary::Min => map2(a, b, out, T::min),
    }
}

#[inline(always)]
fn select<T: Real>(c: View<'_, T>, a: View<'_, T>, b: View<'_, T>, out: &mut [T]) {
    map1(c, out, |c| c);
    let choose = |o: &mut T, a: T, b: T| *o = if *o > T::ZERO { a } else { b };
    match (a, b) {
        (View::Slice(a), View::Slice(b)) => out.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| choose(o, *a, *b)),
        (View::Slice(a), View::Constant(b)) => out.iter_mut().zip(a).for_each(|(o, a)| choose(o, *a, b)),
        (View::Constant(a), View::Slice(b)) => out.iter_mut().zip(b).for_each(|(o, b)| choose(o, a, *b)),
        (View::Constant(a), View::Constant(b)) => out.iter_mut().for_each(|o| choose(o, a, b)),
    }
}
