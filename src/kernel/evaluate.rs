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
    Pair(Pair, Operand, Operand, Operand),
    /// Between two constants.
    Clamp(Operand, f64, f64),
    Select(Operand, Operand, Operand),
}

/// Two functions in one loop, which saves writing and reading what is between them. None of the operands is a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    /// `a * b + c`
    MulAdd,
    /// `c - a * b`
    MulSub,
    /// `(a - b) * c`
    SubMul,
}

/// Pointwise expressions made ready for inputs and an output of given shapes. What occurs twice is computed once.
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// Each step with the register that it writes.
    steps: Vec<(Step, usize)>,
    results: Vec<Operand>,
    registers: usize,
    accesses: Vec<Access>,
    rows: Rows,
}

/// Where blocks end: at the end of each row, and within rows of more than [`BLOCK`] at multiples of a part. So inputs that
/// repeat with the rows lie as blocks read them, or repeat from block to block.
#[derive(Clone, Copy, Debug)]
struct Rows {
    row: usize,
    part: usize,
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
            Step::Clamp(a, ..) => [Some(a), None, None],
            Step::Pair(_, a, b, c) | Step::Select(a, b, c) => [Some(a), Some(b), Some(c)],
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
        Expr::Binary(f, a, b) => match (pair(expr), clamp(expr)) {
            (Some((pair, operands)), _) => {
                let [a, b, c] = operands.map(|operand| compile(operand, steps));
                Step::Pair(pair, a, b, c)
            }
            (None, Some((a, least, most))) => Step::Clamp(compile(a, steps), least, most),
            (None, None) => Step::Binary(*f, compile(a, steps), compile(b, steps)),
        },
        Expr::Select(c, a, b) => Step::Select(compile(c, steps), compile(a, steps), compile(b, steps)),
    };
    let found = steps.iter().position(|s| *s == step);
    Operand::Register(found.unwrap_or_else(|| {
        steps.push(step);
        steps.len() - 1
    }))
}

/// The two functions that `expr` ends in, where they have one loop.
fn pair(expr: &Expr) -> Option<(Pair, [&Expr; 3])> {
    let product = |expr| match expr {
        &Expr::Binary(Binary::Mul, ref a, ref b) => Some((&**a, &**b)),
        _ => None,
    };
    let found = match expr {
        Expr::Binary(Binary::Add, a, b) => match (product(a), product(b)) {
            (Some((x, y)), _) => (Pair::MulAdd, [x, y, b]),
            (None, Some((x, y))) => (Pair::MulAdd, [x, y, a]),
            (None, None) => return None,
        },
        Expr::Binary(Binary::Sub, a, b) => {
            let (x, y) = product(b)?;
            (Pair::MulSub, [x, y, a])
        }
        Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
            (Expr::Binary(Binary::Sub, x, y), _) => (Pair::SubMul, [&**x, y, b]),
            (_, Expr::Binary(Binary::Sub, x, y)) => (Pair::SubMul, [&**x, y, a]),
            _ => return None,
        },
        _ => return None,
    };
    Some(found).filter(|(_, operands)| !operands.iter().any(|operand| matches!(operand, Expr::Constant(_))))
}

/// What `expr` confines between two constants, and these.
fn clamp(expr: &Expr) -> Option<(&Expr, f64, f64)> {
    let Expr::Binary(Binary::Min, inner, most) = expr else { return None };
    match (&**inner, &**most) {
        (Expr::Binary(Binary::Max, a, least), Expr::Constant(most)) => match **least {
            Expr::Constant(least) => Some((a, least, *most)),
            _ => None,
        },
        _ => None,
    }
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
        let accesses: Vec<Access> = inputs.iter().enumerate().map(access).collect();
        let rows = Rows::of(&accesses);
        Self { steps: steps.into_iter().zip(register_of).collect(), results, registers, accesses, rows }
    }

    /// Computes the window `output` of the first expression's values, whose first element has flat index `first`. An
    /// input that is `None` is the window's own content before the call.
    pub fn run<T: Real>(&self, inputs: &[Option<&[T]>], output: &mut [T], first: usize) {
        let result = self.results[0];
        if matches!(result, Operand::Input(n) if inputs[n].is_none()) {
            return;
        }
        // The last step writes the window itself where none reads it.
        let is_direct = matches!(result, Operand::Register(_)) && inputs.iter().all(Option::is_some);
        self.with_memory(|registers, gathered, _| {
            vectorised(
                #[inline(always)]
                || {
                    let (mut before, end) = (0..0, first + output.len());
                    for block in self.rows.blocks(first..end) {
                        self.gather(inputs, gathered, &block, &before);
                        let window = &mut output[block.start - first..block.end - first];
                        let (start, len) = (block.start, block.len());
                        if is_direct {
                            self.compute(registers, &Operands { inputs, gathered, own: &[], start, len }, Some(window));
                        } else {
                            self.compute(registers, &Operands { inputs, gathered, own: window, start, len }, None);
                            // Not a view of the block itself, which is written here.
                            let operands = Operands { inputs, gathered, own: &[], start, len };
                            match self.view(result, &operands, Registers::all(registers)) {
                                View::Slice(values) => window.copy_from_slice(values),
                                View::Constant(value) => window.fill(value),
                            }
                        }
                        before = block;
                    }
                },
            );
        });
    }

    /// Computes the elements of some blocks, at most [`BLOCK`] each, given by their flat indices, and calls `body` with the
    /// number of each expression and its values.
    #[inline(always)]
    pub fn for_blocks<T: Real>(
        &self,
        inputs: &[Option<&[T]>],
        blocks: impl Iterator<Item = Range<usize>>,
        mut body: impl FnMut(usize, &[T]),
    ) {
        self.with_memory(|registers, gathered, constant| {
            vectorised(
                #[inline(always)]
                || {
                    let mut before = 0..0;
                    for block in blocks {
                        self.gather(inputs, gathered, &block, &before);
                        let operands = Operands { inputs, gathered, own: &[], start: block.start, len: block.len() };
                        self.compute(registers, &operands, None);
                        for (at, result) in self.results.iter().enumerate() {
                            let values = match self.view(*result, &operands, Registers::all(registers)) {
                                View::Slice(values) => values,
                                View::Constant(value) => {
                                    constant[..block.len()].fill(value);
                                    &constant[..block.len()]
                                }
                            };
                            body(at, values);
                        }
                        before = block;
                    }
                },
            );
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

    /// Copies the elements of inputs that belong to a block, except where they lie in that order and where the block
    /// before has left them.
    fn gather<T: Real>(
        &self,
        inputs: &[Option<&[T]>],
        gathered: &mut [T],
        block: &Range<usize>,
        before: &Range<usize>,
    ) {
        for ((buffer, access), input) in gathered.chunks_exact_mut(BLOCK).zip(&self.accesses).zip(inputs) {
            let is_there = match access {
                Access::Full => true,
                Access::Scalar => block.len() <= before.len(),
                Access::Periodic(period) => {
                    let repeats = block.len() <= before.len() && block.start % period == before.start % period;
                    repeats || lies_in_row(*period, block.start, block.len())
                }
                Access::Strided(_) => false,
            };
            if let Some(input) = input.filter(|_| !is_there) {
                gather(access, input, &mut buffer[..block.len()], block.start);
            }
        }
    }

    /// Computes all steps for a block, the last one to `target` where there is one.
    #[inline(always)]
    fn compute<T: Real>(&self, registers: &mut [T], operands: &Operands<'_, T>, mut target: Option<&mut [T]>) {
        for (at, (step, register)) in self.steps.iter().enumerate() {
            let (below, rest) = registers.split_at_mut(register * BLOCK);
            let (out, above) = rest.split_at_mut(BLOCK);
            let others = Registers { below, above, out: *register };
            let out = match &mut target {
                Some(target) if at + 1 == self.steps.len() => &mut **target,
                _ => &mut out[..operands.len],
            };
            let view = |operand: Operand| self.view(operand, operands, others);
            match *step {
                Step::Unary(f, a) => unary(f, view(a), out),
                Step::Binary(f, a, b) => binary(f, view(a), view(b), out),
                Step::Pair(f, a, b, c) => pair_of(f, [view(a), view(b), view(c)], out),
                Step::Clamp(a, least, most) => {
                    let (least, most) = (T::from_f64(least), T::from_f64(most));
                    map1(view(a), out, |a| a.max(least).min(most));
                }
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
                (Access::Periodic(period), Some(input)) if lies_in_row(*period, start, len) => {
                    View::Slice(&input[start % period..][..len])
                }
                _ => View::Slice(&gathered[n * BLOCK..][..len]),
            },
        }
    }
}

impl Rows {
    fn of(accesses: &[Access]) -> Self {
        let period = accesses.iter().filter_map(|access| match access {
            Access::Periodic(period) => Some(*period),
            _ => None,
        });
        match period.max().unwrap_or(1) {
            period if period <= BLOCK => Self { row: BLOCK / period * period, part: BLOCK },
            period => Self { row: period, part: period.div_ceil(period.div_ceil(BLOCK)) },
        }
    }

    /// The blocks of some elements, given by their flat indices.
    fn blocks(self, elements: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut start = elements.start;
        std::iter::from_fn(move || {
            let at = start % self.row;
            let end = start - at + self.row.min((at / self.part + 1) * self.part);
            let block = start..end.min(elements.end);
            start = block.end;
            Some(block).filter(|block| !block.is_empty())
        })
    }
}

/// Whether `len` elements from `start` on belong to elements side by side of an input that repeats with this period.
#[inline(always)]
fn lies_in_row(period: usize, start: usize, len: usize) -> bool {
    start % period + len <= period
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
        Access::Full => {}
        Access::Scalar => buffer.fill(input[0]),
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
fn pair_of<T: Real>(pair: Pair, operands: [View<'_, T>; 3], out: &mut [T]) {
    let [View::Slice(a), View::Slice(b), View::Slice(c)] = operands else {
        unreachable!("no operand of a pair is a constant");
    };
    let loops = out.iter_mut().zip(a).zip(b).zip(c);
    match pair {
        Pair::MulAdd => loops.for_each(|(((o, a), b), c)| *o = *a * *b + *c),
        Pair::MulSub => loops.for_each(|(((o, a), b), c)| *o = *c - *a * *b),
        Pair::SubMul => loops.for_each(|(((o, a), b), c)| *o = (*a - *b) * *c),
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
