//! Which values share a buffer: greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
//! Inference", 2020, section 4.3). Values that meet in a step get different buffers, as WebGPU demands.

use crate::tensor::DType;

/// A value's need of memory: it lives from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub dtype: DType,
    pub elements: usize,
    pub first: usize,
    pub last: usize,
}

/// How much memory a plan takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of the buffers that values share: the planned peak of a run.
    pub planned: u64,
    /// Bytes of all values that are computed in a run, were each to have its own buffer.
    pub values: u64,
    /// Bytes of variables, feeds and constants.
    pub resident: u64,
}

/// Assigns a shared buffer to each lifetime. Returns the buffer of each and the element type and size of each buffer.
pub(super) fn assign(lifetimes: &[Lifetime], share: bool) -> (Vec<usize>, Vec<(DType, usize)>) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(lifetimes[at].elements), lifetimes[at].first));
    let mut buffer_of = vec![0; lifetimes.len()];
    let mut buffers: Vec<(DType, usize)> = Vec::new();
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for at in order {
        let life = lifetimes[at];
        let free = |other: &usize| {
            let other = lifetimes[*other];
            other.last < life.first || life.last < other.first
        };
        // Among the free buffers the one whose tenants leave the smallest gap around this lifetime: it is the one
        // that the fewest later values could have used.
        let gap = |buffer: usize| {
            let before = tenants[buffer].iter().map(|t| lifetimes[*t].last).filter(|l| *l < life.first).max();
            let after = tenants[buffer].iter().map(|t| lifetimes[*t].first).filter(|f| *f > life.last).min();
            let lead = before.map_or(usize::MAX / 4, |l| life.first - l);
            let trail = after.map_or(usize::MAX / 4, |f| f - life.last);
            lead.min(trail)
        };
        let found = (0..buffers.len())
            .filter(|&b| share && buffers[b].0 == life.dtype && tenants[b].iter().all(free))
            .min_by_key(|&b| gap(b));
        let buffer = found.unwrap_or_else(|| {
            buffers.push((life.dtype, life.elements));
            tenants.push(Vec::new());
            buffers.len() - 1
        });
        tenants[buffer].push(at);
        buffer_of[at] = buffer;
    }
    (buffer_of, buffers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_that_meet_never_share(spans in prop::collection::vec((1usize..100, 0usize..20, 0usize..8), 1..40)) {
            let lifetimes: Vec<Lifetime> = spans
                .iter()
                .map(|&(elements, first, length)| Lifetime { dtype: DType::F32, elements, first, last: first + length })
                .collect();
            let (buffer_of, buffers) = assign(&lifetimes, true);
            for (a, one) in lifetimes.iter().enumerate() {
                prop_assert!(buffers[buffer_of[a]].1 >= one.elements);
                for (b, other) in lifetimes.iter().enumerate().skip(a + 1) {
                    let meet = one.first <= other.last && other.first <= one.last;
                    prop_assert!(!meet || buffer_of[a] != buffer_of[b]);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<Lifetime> =
            (0..10).map(|at| Lifetime { dtype: DType::F32, elements: 8, first: at, last: at + 1 }).collect();
        assert_eq!(assign(&chain, true).1.len(), 2);
        assert_eq!(assign(&chain, false).1.len(), 10);
    }
}
