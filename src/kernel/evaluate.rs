//! The CPU evaluation of pointwise expressions: block by block, one vectorised loop for each function.

use std::{cell::RefCell, ops::Range};

use super::{
    Access,
    cpu::vectorised,
    expr::{Binary, Expr, Unary},
};
use crate::tensor::{Real, Shape};

/// Elements of a block: small enough that all intermediate values stay in the first-level cache.
pub const BLOCK: usize = 512;

thread_local! {
    /// What a thread evaluates in: kept, so that a step does not allocate.
    static MEMORY: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

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

/// Where operands are read from.
struct Operands<'a, T> {
    inputs: &'a [Option<&'a [T]>],
    /// A block for each input, used by those that are not read as they lie.
    gathered: &'a [T],
    /// What the block held before, for an input that is `None`.
    own: &'a [T],
    start: usize,
    len: usize,
}

/// The blocks of all registers but number `out`, which is being written.
#[derive(Clone, Copy)]
struct Registers<'a, T> {
    below: &'a [T],
    above: &'a [T],
    out: usize,
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

    /// Computes the window `output` of the first expression's values, whose first element has flat index `first`. An
    /// input that is `None` is the window's own content before the call.
    pub fn run<T: Real>(&self, inputs: &[Option<&[T]>], output: &mut [T], first: usize) {
        self.with_memory(|registers, gathered, _| {
            for (at, block) in output.chunks_mut(BLOCK).enumerate() {
                let (start, len) = (first + at * BLOCK, block.len());
                self.gather(inputs, gathered, start..start + len, BLOCK, at == 0);
                vectorised(
                    #[inline(always)]
                    || {
                        self.compute(registers, &Operands { inputs, gathered, own: block, start, len });
                        if matches!(self.results[0], Operand::Input(n) if inputs[n].is_none()) {
                            return;
                        }
                        // Not a view of the block itself, which is written here.
                        let operands = Operands { inputs, gathered, own: &[], start, len };
                        match self.view(self.results[0], &operands, Registers::all(registers)) {
                            View::Slice(values) => block.copy_from_slice(values),
                            View::Constant(value) => block.fill(value),
                        }
                    },
                );
            }
        });
    }

    /// Computes the elements of flat indices `range`, in blocks of `block` elements, at most [`BLOCK`], and calls
    /// `body` with the number of each expression and its values.
    pub fn for_blocks<T: Real>(
        &self,
        inputs: &[Option<&[T]>],
        range: Range<usize>,
        block: usize,
        mut body: impl FnMut(usize, &[T]),
    ) {
        self.with_memory(|registers, gathered, constant| {
            for start in range.clone().step_by(block) {
                let len = block.min(range.end - start);
                self.gather(inputs, gathered, start..start + len, block, start == range.start);
                vectorised(
                    #[inline(always)]
                    || {
                        let operands = Operands { inputs, gathered, own: &[], start, len };
                        self.compute(registers, &operands);
                        for (at, result) in self.results.iter().enumerate() {
                            match self.view(*result, &operands, Registers::all(registers)) {
                                View::Slice(values) => body(at, values),
                                View::Constant(value) => {
                                    constant[..len].fill(value);
                                    body(at, &constant[..len]);
                                }
                            }
                        }
                    },
                );
            }
        });
    }

    /// Calls `body` with a block for each register, one for each input, and another one.
    fn with_memory<T: Real>(&self, body: impl FnOnce(&mut [T], &mut [T], &mut [T])) {
        let elements = (self.registers + self.accesses.len() + 1) * BLOCK;
        MEMORY.with_borrow_mut(|memory| {
            if memory.len() < elements {
                memory.resize(elements, 0.0);
            }
            let memory: &mut [T] = bytemuck::cast_slice_mut(memory);
            let (registers, memory) = memory[..elements].split_at_mut(self.registers * BLOCK);
            let (gathered, constant) = memory.split_at_mut(self.accesses.len() * BLOCK);
            body(registers, gathered, constant);
        });
    }

    /// Copies the elements of inputs that belong to `len` elements of the output from `start` on, except where they lie
    /// in that order. What repeats with blocks of `block` is there already where one was before.
    fn gather<T: Real>(
        &self,
        inputs: &[Option<&[T]>],
        gathered: &mut [T],
        elements: Range<usize>,
        block: usize,
        is_first: bool,
    ) {
        for ((buffer, access), input) in gathered.chunks_exact_mut(BLOCK).zip(&self.accesses).zip(inputs) {
            let repeats = matches!(access, Access::Periodic(period) if block.is_multiple_of(*period));
            if let Some(input) = input.filter(|_| is_first || !repeats) {
                gather(access, input, &mut buffer[..elements.len()], elements.start);
            }
        }
    }

    #[inline(always)]
    fn compute<T: Real>(&self, registers: &mut [T], operands: &Operands<'_, T>) {
        for (step, register) in &self.steps {
            let (below, rest) = registers.split_at_mut(register * BLOCK);
            let (out, above) = rest.split_at_mut(BLOCK);
            let others = Registers { below, above, out: *register };
            let view = |operand: Operand| self.view(operand, operands, others);
            let out = &mut out[..operands.len];
            match *step {
                Step::Unary(f, a) => unary(f, view(a), out),
                Step::Binary(f, a, b) => binary(f, view(a), view(b), out),
                Step::Select(c, a, b) => select(view(c), view(a), view(b), out),
            }
        }
    }

    /// The values of an operand for a block.
    #[inline(always)]
    fn view<'a, T: Real>(
        &self,
        operand: Operand,
        operands: &Operands<'a, T>,
        registers: Registers<'a, T>,
    ) -> View<'a, T> {
        let Operands { inputs, gathered, own, start, len } = *operands;
        match operand {
            Operand::Constant(c) => View::Constant(T::from_f64(c)),
            Operand::Register(r) => View::Slice(&registers.block(r)[..len]),
            Operand::Input(n) => match (&self.accesses[n], inputs[n]) {
                (_, None) => View::Slice(own),
                (Access::Full, Some(input)) => View::Slice(&input[start..start + len]),
                (Access::Scalar, Some(input)) => View::Constant(input[0]),
                _ => View::Slice(&gathered[n * BLOCK..][..len]),
            },
        }
    }
}

impl<'a, T> Registers<'a, T> {
    fn all(registers: &'a [T]) -> Self {
        Self { below: registers, above: &[], out: usize::MAX }
    }

    fn block(self, register: usize) -> &'a [T] {
        match register < self.out {
            true => &self.below[register * BLOCK..],
            false => &self.above[(register - self.out - 1) * BLOCK..],
        }
    }
}

/// Copies to `buffer` the elements of `input` that belong to as many elements of the output from `start` on.
fn gather<T: Real>(access: &Access, input: &[T], buffer: &mut [T], start: usize) {
    match access {
        Access::Full | Access::Scalar => {}
        Access::Periodic(period) => {
            let (first, rest) = buffer.split_at_mut((period - start % period).min(buffer.len()));
            first.copy_from_slice(&input[start % period..][..first.len()]);
            for run in rest.chunks_mut(*period) {
                run.copy_from_slice(&input[..run.len()]);
            }
        }
        Access::Strided(axes) => {
            let (extent, stride) = axes.last().copied().unwrap_or((1, 0));
            let mut filled = 0;
            while filled < buffer.len() {
                // Along the innermost axis the elements follow each other.
                let at = start + filled;
                let run = (extent - at % extent).min(buffer.len() - filled);
                let first = access.index(at);
                for (offset, value) in buffer[filled..filled + run].iter_mut().enumerate() {
                    *value = input[first + offset * stride];
                }
                filled += run;
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
        Unary::RoundF16 => map1(a, out, T::round_f16),
        Unary::RoundI8 => map1(a, out, T::round_i8),
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
    let choose = |c: T, a: T, b: T| if c > T::ZERO { a } else { b };
    let c = match c {
        View::Slice(c) => c,
        View::Constant(c) => return map1(if c > T::ZERO { a } else { b }, out, |x| x),
    };
    let outputs = out.iter_mut().zip(c);
    match (a, b) {
        (View::Slice(a), View::Slice(b)) => outputs.zip(a).zip(b).for_each(|(((o, c), a), b)| *o = choose(*c, *a, *b)),
        (View::Slice(a), View::Constant(b)) => outputs.zip(a).for_each(|((o, c), a)| *o = choose(*c, *a, b)),
        (View::Constant(a), View::Slice(b)) => outputs.zip(b).for_each(|((o, c), b)| *o = choose(*c, a, *b)),
        (View::Constant(a), View::Constant(b)) => outputs.for_each(|(o, c)| *o = choose(*c, a, b)),
    }
}
