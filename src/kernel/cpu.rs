//! Arguments of CPU kernels.

use std::{marker::PhantomData, sync::Mutex};

use rayon::prelude::*;

use crate::tensor::{DType, Real, TensorType};

/// Runs `body` compiled for the vectors of [`InstructionSet::chosen`](super::InstructionSet::chosen). Closures that run on other threads need
/// their own call: a thread does not inherit it.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    super::instructions::arch().dispatch(body)
}

/// An output that tasks write at places of their own which do not lie side by side, such as columns of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    elements: usize,
    output: PhantomData<&'a mut [T]>,
}

// SAFETY: whoever takes a part answers for no other task having it at the same time.
unsafe impl<T: Send> Send for Shared<'_, T> {}
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(output: &'a mut [T]) -> Self {
        Self { start: output.as_mut_ptr(), elements: output.len(), output: PhantomData }
    }

    /// Where element `at` lies.
    pub fn at(self, at: usize) -> *mut T {
        assert!(at < self.elements, "the element is inside of the output");
        self.start.wrapping_add(at)
    }

    /// `count` elements from `at` on.
    ///
    /// # Safety
    /// Nobody else may have any of them while the result is in use.
    pub unsafe fn part(self, at: usize, count: usize) -> &'a mut [T] {
        assert!(at <= self.elements && count <= self.elements - at, "the part is inside of the output");
        // SAFETY: it is inside; the rest is promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), count) }
    }
}

/// Elements of a cache line, of which vectors should not straddle two.
pub(crate) const LINE: usize = 16;

/// Scratch memory from the first cache line on that begins in it, at most [`LINE`] elements less.
pub(crate) fn aligned<T>(scratch: &mut [T]) -> &mut [T] {
    let at = misaligned(scratch);
    &mut scratch[at..]
}

/// Elements before the first cache line that begins in memory, at most [`LINE`].
pub(crate) fn misaligned<T>(memory: &[T]) -> usize {
    memory.as_ptr().align_offset(64).min(LINE).min(memory.len())
}

/// Does `work` for each task on all threads, each with `each` elements of the scratch memory to itself.
pub(crate) fn share_out<T: Real, I: Send>(
    tasks: impl Iterator<Item = I> + Send,
    scratch: &mut [T],
    each: usize,
    work: impl Fn(I, &mut [T]) + Sync,
) {
    let tasks = Mutex::new(tasks);
    let next = || tasks.lock().expect("taking a task does not panic").next();
    scratch.par_chunks_exact_mut(each).for_each(|memory| {
        while let Some(task) = next() {
            work(task, memory);
        }
    });
}

/// One argument: `elements` of the storage that begins at `start`. Floats are stored as the executor's [`Real`], and so
/// are narrower numbers while a kernel runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawArg {
    pub start: *mut u8,
    pub elements: usize,
}

// SAFETY: a RawArg is an address; whoever reads or writes through it answers for the aliasing (see Args::new).
unsafe impl Send for RawArg {}
unsafe impl Sync for RawArg {}

/// The inputs, outputs and scratch memory of one call of a CPU kernel. Outputs never overlap inputs, except the pairs
/// that the operation itself declares as in place: there only the output is to be touched.
pub struct Args<'a, T: Real> {
    /// What the kernel reads.
    pub inputs: Inputs<'a, T>,
    /// What the kernel writes, in full.
    pub outputs: Outputs<'a, T>,
    /// Working memory of as many elements as the operation asked for; its contents are arbitrary.
    pub scratch: &'a mut [T],
}

impl<'a, T: Real> Args<'a, T> {
    /// # Safety
    /// Every argument must point to its number of initialised elements, valid for `'a`; no output and no scratch may
    /// overlap another argument that the kernel touches.
    pub(crate) unsafe fn new(
        types: &'a crate::kernel::Signature,
        inputs: &'a [RawArg],
        outputs: &'a [RawArg],
        scratch: Option<RawArg>,
    ) -> Self {
        let scratch = match scratch {
            // SAFETY: promised by the caller.
            Some(raw) => unsafe { std::slice::from_raw_parts_mut(raw.start.cast(), raw.elements) },
            None => &mut [],
        };
        Self {
            inputs: Inputs { types: &types.inputs, raw: inputs, float: PhantomData },
            outputs: Outputs { types: &types.outputs, raw: outputs, taken: 0, float: PhantomData },
            scratch,
        }
    }
}

impl<T: Real> Args<'_, T> {
    /// The first inputs, outputs and elements of scratch memory, for an operation that is the first part of this one.
    pub(crate) fn first(&mut self, inputs: usize, outputs: usize, scratch: usize) -> Args<'_, T> {
        Args {
            inputs: Inputs { types: &self.inputs.types[..inputs], raw: &self.inputs.raw[..inputs], float: PhantomData },
            outputs: Outputs {
                types: &self.outputs.types[..outputs],
                raw: &self.outputs.raw[..outputs],
                taken: self.outputs.taken,
                float: PhantomData,
            },
            scratch: &mut self.scratch[..scratch],
        }
    }
}

/// What a kernel reads.
#[derive(Clone, Copy)]
pub struct Inputs<'a, T> {
    types: &'a [TensorType],
    raw: &'a [RawArg],
    float: PhantomData<&'a T>,
}

impl<'a, T: Real> Inputs<'a, T> {
    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are no inputs.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Element type and shape of input `at`.
    pub fn ty(&self, at: usize) -> &'a TensorType {
        &self.types[at]
    }

    /// Input `at`, which holds floats, or narrower numbers that the executor has widened to floats.
    pub fn float(&self, at: usize) -> &'a [T] {
        self.slice(at, |dtype| dtype == DType::F32 || dtype.is_narrow())
    }

    /// Input `at`, which holds unsigned integers.
    pub fn uint(&self, at: usize) -> &'a [u32] {
        self.slice(at, |dtype| dtype == DType::U32)
    }

    /// Input `at`, which holds bytes.
    pub fn byte(&self, at: usize) -> &'a [u8] {
        self.slice(at, |dtype| dtype == DType::U8)
    }

    fn slice<E>(&self, at: usize, holds: impl Fn(DType) -> bool) -> &'a [E] {
        assert!(holds(self.types[at].dtype), "input {at} holds {}", self.types[at]);
        let raw = self.raw[at];
        // SAFETY: promised to Args::new; the element type was checked.
        unsafe { std::slice::from_raw_parts(raw.start.cast(), raw.elements) }
    }
}

/// What a kernel writes. Each output can be taken once.
pub struct Outputs<'a, T> {
    types: &'a [TensorType],
    raw: &'a [RawArg],
    taken: u32,
    float: PhantomData<&'a mut T>,
}

impl<'a, T: Real> Outputs<'a, T> {
    /// Element type and shape of output `at`.
    pub fn ty(&self, at: usize) -> &'a TensorType {
        &self.types[at]
    }

    /// Output `at`, which holds floats, or narrower numbers to which the executor rounds these afterwards.
    ///
    /// # Panics
    /// If it was taken already or holds another element type; likewise in the other accessors.
    pub fn float(&mut self, at: usize) -> &'a mut [T] {
        self.take(at, |dtype| dtype == DType::F32 || dtype.is_narrow())
    }

    /// Output `at`, which holds unsigned integers.
    pub fn uint(&mut self, at: usize) -> &'a mut [u32] {
        self.take(at, |dtype| dtype == DType::U32)
    }

    /// Output `at`, which holds bytes.
    pub fn byte(&mut self, at: usize) -> &'a mut [u8] {
        self.take(at, |dtype| dtype == DType::U8)
    }

    fn take<E>(&mut self, at: usize, holds: impl Fn(DType) -> bool) -> &'a mut [E] {
        assert!(holds(self.types[at].dtype), "output {at} holds {}", self.types[at]);
        assert_eq!(self.taken & (1 << at), 0, "output {at} was taken already");
        self.taken |= 1 << at;
        let raw = self.raw[at];
        // SAFETY: promised to Args::new; the element type was checked and nobody else holds this output.
        unsafe { std::slice::from_raw_parts_mut(raw.start.cast(), raw.elements) }
    }
}
