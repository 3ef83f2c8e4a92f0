//! The CPU kernels: a task owns a head of an image and goes through its queries a few rows at a time, whose scores stay in
//! the second-level cache.

use rayon::current_num_threads;

use super::{
    Heads,
    product::{Factor, multiply, pack, packed},
};
use crate::{
    kernel::{
        cpu::{Args, LINE, Shared, aligned, share_out, vectorised},
        vector::lanes,
    },
    ops::rows::{largest, sum},
    tensor::Real,
};

/// Queries whose scores are computed at once: so many, in whole tiles of registers, as have no more scores than these.
const QUERIES: usize = 96;
const TILE: usize = 12;
const SCORES: usize = 40 << 10;
/// Tasks that the forward pass is cut into, where each keeps queries enough to repay packing the keys.
const TASKS: usize = 32;
const FEWEST_QUERIES: usize = 96;
/// Most elements of a vector: what the size of scratch memory counts with.
const MOST_LANES: usize = 16;

/// Elements of scratch memory of all threads, with `parts` for each.
fn scratch<const N: usize>(parts: [usize; N]) -> usize {
    LINE + current_num_threads() * parts.iter().sum::<usize>()
}

/// The parts of a thread's scratch memory.
fn split<T, const N: usize>(mut memory: &mut [T], parts: [usize; N]) -> [&mut [T]; N] {
    parts.map(|elements| memory.split_off_mut(..elements).expect("the memory has all parts"))
}

impl Heads {
    /// Elements from one row of scores to the next.
    fn pitch(&self) -> usize {
        self.tokens.next_multiple_of(LINE)
    }

    /// Queries whose scores are computed at once.
    fn queries(&self) -> usize {
        (SCORES / self.pitch() / TILE * TILE).clamp(TILE, QUERIES)
    }

    /// Queries of a task of the forward pass.
    fn share(&self) -> usize {
        let parts = TASKS.div_ceil(self.batch * self.heads).min(self.tokens / FEWEST_QUERIES).max(1);
        self.tokens.div_ceil(parts).next_multiple_of(TILE)
    }

    /// Memory of a task of the forward pass: transposed keys, values, scores, results.
    fn of_forward(&self, lanes: usize) -> [usize; 4] {
        let Self { tokens, head, .. } = *self;
        let queries = self.queries();
        let parts = [packed(head, tokens, lanes), packed(tokens, head, lanes), queries * self.pitch(), queries * head];
        parts.map(|elements| elements.next_multiple_of(LINE))
    }

    /// Memory of a task of the gradient: transposed keys and values, keys, some queries and as many gradients of results,
    /// their weights and the gradients of their scores, and the gradients of queries, keys and values.
    fn of_gradient(&self, lanes: usize) -> [usize; 10] {
        let (Self { tokens, head, .. }, at_once) = (*self, self.queries());
        let (turned, keys, queries) =
            (packed(head, tokens, lanes), packed(tokens, head, lanes), packed(at_once, head, lanes));
        let (scores, all) = (at_once * self.pitch(), tokens * head);
        let parts = [turned, turned, keys, queries, queries, scores, scores, at_once * head, all, all];
        parts.map(|elements| elements.next_multiple_of(LINE))
    }

    pub fn forward_scratch(&self) -> usize {
        scratch(self.of_forward(MOST_LANES))
    }

    pub fn gradient_scratch(&self) -> usize {
        scratch(self.of_gradient(MOST_LANES))
    }

    /// Where the queries (0), keys (1) or values (2) of a head begin in `[batch, tokens, 3, heads, head]`.
    fn projected(&self, image: usize, part: usize, head: usize) -> usize {
        ((image * self.tokens * 3 + part) * self.heads + head) * self.head
    }

    /// Where a head begins in `[batch, tokens, heads, head]`.
    fn result(&self, image: usize, head: usize) -> usize {
        (image * self.tokens * self.heads + head) * self.head
    }

    /// The queries, keys and values of a head.
    fn parts<'a, T>(&self, qkv: &'a [T], image: usize, head: usize) -> [Factor<'a, T>; 3] {
        let down = 3 * self.width();
        [0, 1, 2].map(|part| Factor { data: qkv, start: self.projected(image, part, head), down, across: 1 })
    }

    /// The results of a head, or their gradient.
    fn results<'a, T>(&self, y: &'a [T], image: usize, head: usize) -> Factor<'a, T> {
        Factor { data: y, start: self.result(image, head), down: self.width(), across: 1 }
    }

    pub fn forward<T: Real>(&self, mut args: Args<'_, T>) {
        let Self { batch, heads, tokens, head: size, .. } = *self;
        let (qkv, scale, pitch) = (args.inputs.float(0), T::from_f64(self.scale()), self.pitch());
        let (y, log_sums) = (Shared::new(args.outputs.float(0)), Shared::new(args.outputs.float(1)));
        let (share, memory) = (self.share(), self.of_forward(lanes::<T>()));
        let tasks = (0..batch * heads).flat_map(|at| (0..tokens).step_by(share).map(move |first| (at, first)));
        share_out(tasks, aligned(args.scratch), memory.iter().sum(), |(at, first), scratch| {
            let (image, head) = (at / heads, at % heads);
            let [turned_keys, packed_values, scores, results] = split(scratch, memory);
            let [queries, keys, values] = self.parts(qkv, image, head);
            pack(keys.t(), [size, tokens], turned_keys);
            pack(values, [tokens, size], packed_values);
            let end = tokens.min(first + share);
            for first in (first..end).step_by(self.queries()) {
                let count = self.queries().min(end - first);
                multiply([count, size, tokens], queries.from(first), turned_keys, scores, pitch, false);
                let mut inverse = [T::ZERO; QUERIES];
                // SAFETY: these queries are this task's alone; likewise below.
                let log_sums = unsafe { log_sums.part(at * tokens + first, count) };
                for ((row, inverse), log_sum) in scores.chunks_exact_mut(pitch).zip(&mut inverse).zip(log_sums) {
                    let (exponentials, logarithm) = exponentials(&mut row[..tokens], scale);
                    (*inverse, *log_sum) = (T::ONE / exponentials, logarithm);
                }
                multiply([count, tokens, size], Factor::of(scores, pitch), packed_values, results, size, false);
                for ((row, inverse), query) in results.chunks_exact(size).zip(inverse).zip(first..first + count) {
                    let y = unsafe { y.part(self.result(image, head) + query * self.width(), size) };
                    y.iter_mut().zip(row).for_each(|(y, sum)| *y = *sum * inverse);
                }
            }
        });
    }

    pub fn gradient<T: Real>(&self, mut args: Args<'_, T>) {
        let Self { batch, heads, tokens, head: size, .. } = *self;
        let [dy, qkv, y, log_sums] = [0, 1, 2, 3].map(|at| args.inputs.float(at));
        let (scale, pitch) = (T::from_f64(self.scale()), self.pitch());
        let dqkv = Shared::new(args.outputs.float(0));
        let memory = self.of_gradient(lanes::<T>());
        share_out(0..batch * heads, aligned(args.scratch), memory.iter().sum(), |at, scratch| {
            let (image, head) = (at / heads, at % heads);
            let [
                turned_keys,
                turned_values,
                packed_keys,
                packed_queries,
                packed_dy,
                weights,
                scores,
                d_queries,
                d_keys,
                d_values,
            ] = split(scratch, memory);
            let [queries, keys, values] = self.parts(qkv, image, head);
            let [y, dy] = [y, dy].map(|tensor| self.results(tensor, image, head));
            let store = |part: usize, first: usize, rows: &[T]| {
                for (row, token) in rows.chunks_exact(size).zip(first..) {
                    let start = self.projected(image, part, head) + token * 3 * self.width();
                    // SAFETY: this head of the image is this task's alone.
                    unsafe { dqkv.part(start, size) }.copy_from_slice(row);
                }
            };
            pack(keys.t(), [size, tokens], turned_keys);
            pack(values.t(), [size, tokens], turned_values);
            pack(keys, [tokens, size], packed_keys);
            for first in (0..tokens).step_by(self.queries()) {
                let count = self.queries().min(tokens - first);
                let (queries, y, dy) = (queries.from(first), y.from(first), dy.from(first));
                multiply([count, size, tokens], queries, turned_keys, weights, pitch, false);
                multiply([count, size, tokens], dy, turned_values, scores, pitch, false);
                let rows = weights.chunks_exact_mut(pitch).zip(scores.chunks_exact_mut(pitch)).take(count);
                for (row, (weights, scores)) in rows.enumerate() {
                    let (y, dy) = (y.row(row, size), dy.row(row, size));
                    let log_sum = log_sums[at * tokens + first + row];
                    score_gradients(&mut weights[..tokens], &mut scores[..tokens], y, dy, log_sum, scale);
                }
                pack(queries, [count, size], packed_queries);
                pack(dy, [count, size], packed_dy);
                let (weights, scores) = (Factor::of(weights, pitch), Factor::of(scores, pitch));
                multiply([count, tokens, size], scores, packed_keys, d_queries, size, false);
                multiply([tokens, count, size], weights.t(), packed_dy, d_values, size, first > 0);
                multiply([tokens, count, size], scores.t(), packed_queries, d_keys, size, first > 0);
                store(0, first, &d_queries[..count * size]);
            }
            store(1, 0, &d_keys[..tokens * size]);
            store(2, 0, &d_values[..tokens * size]);
        });
    }
}

/// Makes `e^(scale (x - maximum))` of a row of scores, and returns their sum and the logarithm of the sum of
/// `e^(scale x)`.
fn exponentials<T: Real>(row: &mut [T], scale: T) -> (T, T) {
    vectorised(
        #[inline(always)]
        || {
            let maximum = largest(row);
            row.iter_mut().for_each(|x| *x = ((*x - maximum) * scale).exp());
            let exponentials = sum([row], |[x]| x);
            (exponentials, maximum * scale + exponentials.ln())
        },
    )
}

/// Makes weights `p = e^(scale x - log_sum)` of the scores of a query, and of the weights' gradients `dp` those of the scores,
/// `scale p (dp - sum of p dp)`. That sum is the one of `y dy` as well, which is shorter.
fn score_gradients<T: Real>(weights: &mut [T], gradients: &mut [T], y: &[T], dy: &[T], log_sum: T, scale: T) {
    vectorised(
        #[inline(always)]
        || {
            let mean = sum([y, dy], |[y, dy]| y * dy);
            for (x, dp) in weights.iter_mut().zip(gradients) {
                *x = (*x * scale - log_sum).exp();
                *dp = *x * (*dp - mean) * scale;
            }
        },
    );
}
