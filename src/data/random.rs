//! Seeded orders. The shuffle is written out here so that the order of a seed never changes with a version of a random
//! number crate.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The random numbers of `stream` of `seed`: streams of one seed are independent.
pub(super) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Fisher and Yates's shuffle.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut impl RngCore) {
    for last in (1..items.len()).rev() {
        // A multiply and shift maps 32 random bits to 0..=last; its bias is below last / 2^32.
        let other = (u64::from(rng.next_u32()) * (last as u64 + 1)) >> 32;
        items.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permutation(seed: u64, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..100).collect();
        shuffle(&mut order, &mut stream(seed, epoch));
        order
    }

    #[test]
    fn a_shuffle_is_a_permutation_of_its_seed_and_stream() {
        let mut sorted = permutation(1, 0);
        assert_eq!(sorted, permutation(1, 0));
        assert_ne!(sorted, permutation(1, 1));
        assert_ne!(sorted, permutation(2, 0));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_a_seed_is_pinned() {
        assert_eq!(permutation(0, 0)[..8], [55, 60, 33, 56, 87, 34, 78, 30]);
    }

    #[test]
    fn every_place_gets_every_item_about_as_often() {
        let mut counts = [[0u32; 5]; 5];
        let mut rng = stream(7, 0);
        for _ in 0..10_000 {
            let mut items = [0, 1, 2, 3, 4];
            shuffle(&mut items, &mut rng);
            for (place, item) in items.into_iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        assert!(counts.iter().flatten().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }
}
