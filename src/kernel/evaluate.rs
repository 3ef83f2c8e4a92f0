//! The CPU evaluation of a pointwise expression: block by block, one vectorised loop for each function.

use std::cell::RefCell;

use super::{
    Access,
    cpu::vectorised,
    expr::{Binary, Expr, Unary},
};
use crate::tensor::{Real, Shape};

/// Elements of a block: small enough that all intermediate values stay in the first-level cache.
const BLOCK: usize = 512;

thread_local! {
    /// What a thread evaluates in: kept, so that a step does not allocate.
    static MEMORY: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    Input(usize),
    Register(usize),
    Constant(f64),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Unary(Unary, Operand),
    Binary(Binary, Operand, Operand),
    Select(Operand, Operand, Operand),
}

/// A pointwise expression made ready for inputs and an output of given shapes.
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// Each step with the register that it writes.
    steps: Vec<(Step, usize)>,
    result: Operand,
    registers: usize,
    accesses: Vec<Access>,
}

impl Evaluator {
    /// Prepares `expr` over inputs that broadcast to `output`.
    pub fn new(expr: &Expr, inputs: &[&Shape], output: &Shape) -> Self {
        let accesses = inputs.iter().map(|shape| Access::of(shape, output)).collect();
        let mut this = Self { steps: Vec::new(), result: Operand::Constant(0.0), registers: 0, accesses };
        this.result = this.compile(expr, 0);
        this
    }

    /// Appends the steps of `expr`, which may use registers from `free` up, and returns where its value is.
    fn compile(&mut self, expr: &Expr, free: usize) -> Operand {
        let above = |operand: Operand, free: usize| match operand {
            Operand::Register(r) if r >= free => r + 1,
            _ => free,
        };
        let step = match expr {
            Expr::Input(n) => return Operand::Input(*n),
            Expr::Constant(c) => return Operand::Constant(*c),
            Expr::Unary(f, a) => Step::Unary(*f, self.compile(a, free)),
            Expr::Binary(f, a, b) => {
                let a = self.compile(a, free);
                let b = self.compile(b, above(a, free));
                Step::Binary(*f, a, b)
            }
            Expr::Select(c, a, b) => {
                let c = self.compile(c, free);
                let a = self.compile(a, above(c, free));
                let b = self.compile(b, above(a, above(c, free)));
                Step::Select(c, a, b)
            }
        };
        // A result goes into a register above its operands', so that no step reads what it writes.
        let operands = match step {
            Step::Unary(_, a) => [a, a, a],
            Step::Binary(_, a, b) => [a, b, b],
            Step::Select(c, a, b) => [c, a, b],
        };
        let register = operands.into_iter().fold(free, |top, operand| above(operand, top).max(top));
        self.registers = self.registers.max(register + 1);
        self.steps.push((step, register));
        Operand::Register(register)
    }

    /// Computes the window `output` of the result, whose first element has flat index `first`. An input that is `None`
    /// is the window's own content before the call.
    pub fn run<T: Real>(&self, inputs: &[Option<&[T]>], output: &mut [T], first: usize) {
        let elements = (self.registers + self.accesses.len()) * BLOCK;
        MEMORY.with_borrow_mut(|memory| {
            if memory.len() < elements {
                memory.resize(elements, 0.0);
            }
            let memory: &mut [T] = bytemuck::cast_slice_mut(memory);
            let (registers, gathered) = memory[..elements].split_at_mut(self.registers * BLOCK);
            for (at, block) in output.chunks_mut(BLOCK).enumerate() {
                let start = first + at * BLOCK;
                let buffers = gathered.chunks_exact_mut(BLOCK);
                for ((buffer, access), input) in buffers.zip(&self.accesses).zip(inputs) {
                    // What repeats with every block is there already.
                    let repeats = matches!(access, Access::Periodic(period) if BLOCK.is_multiple_of(*period));
                    if let Some(input) = input.filter(|_| at == 0 || !repeats) {
                        gather(access, input, buffer, start, block.len());
                    }
                }
                vectorised(
                    #[inline(always)]
                    || self.block(inputs, gathered, registers, block, start),
                );
            }
        });
    }

    #[inline(always)]
    fn block<T: Real>(
        &self,
        inputs: &[Option<&[T]>],
        gathered: &[T],
        registers: &mut [T],
        block: &mut [T],
        start: usize,
    ) {
        let len = block.len();
        for (step, register) in &self.steps {
            // Operands lie in registers below the result's.
            let (below, out) = registers.split_at_mut(register * BLOCK);
            let view = |operand| self.view(operand, inputs, gathered, below, block, start);
            let out = &mut out[..len];
            match *step {
                Step::Unary(f, a) => unary(f, view(a), out),
                Step::Binary(f, a, b) => binary(f, view(a), view(b), out),
                Step::Select(c, a, b) => select(view(c), view(a), view(b), out),
            }
        }
        if matches!(self.result, Operand::Input(n) if inputs[n].is_none()) {
            return;
        }
        // Not a view of the block itself, which is written here.
        match self.view(self.result, inputs, gathered, registers, &[], start) {
            View::Slice(values) => block.copy_from_slice(&values[..len]),
            View::Constant(value) => block.fill(value),
        }
    }

    /// The values of an operand for a block of elements from `start` on; `block` is what it held before.
    #[inline(always)]
    fn view<'a, T: Real>(
        &self,
        operand: Operand,
        inputs: &[Option<&'a [T]>],
        gathered: &'a [T],
        registers: &'a [T],
        block: &'a [T],
        start: usize,
    ) -> View<'a, T> {
        match operand {
            Operand::Constant(c) => View::Constant(T::from_f64(c)),
            Operand::Register(r) => View::Slice(&registers[r * BLOCK..]),
            Operand::Input(n) => match (&self.accesses[n], inputs[n]) {
                (_, None) => View::Slice(block),
                (Access::Full, Some(input)) => View::Slice(&input[start..]),
                (Access::Scalar, Some(input)) => View::Constant(input[0]),
                _ => View::Slice(&gathered[n * BLOCK..]),
            },
        }
    }
}

/// Copies the elements of `input` that belong to `len` elements of the output from `start` on.
fn gather<T: Real>(access: &Access, input: &[T], buffer: &mut [T], start: usize, len: usize) {
    match access {
        Access::Full | Access::Scalar => {}
        Access::Periodic(period) => {
            let mut at = start % period;
            let mut filled = 0;
            while filled < len {
                let run = (period - at).min(len - filled);
                buffer[filled..filled + run].copy_from_slice(&input[at..at + run]);
                filled += run;
                at = 0;
            }
        }
        Access::Strided(_) => {
            for (offset, value) in buffer[..len].iter_mut().enumerate() {
                *value = input[access.index(start + offset)];
            }
        }
    }
}

#[derive(Clone, Copy)]
enum View<'a, T> {
    Slice(&'a [T]),
    Constant(T),
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
