//! Random numbers from a counter: the same counter gives the same bits here and in `shaders/lib/random.wgsl`.

use crate::tensor::Tensor;

/// The clock of a step, u32 `[2]` of the seed and the step: what the random numbers of the step are a hash of. The upper
/// half of the seed is folded into the lower one; seeds below 2^32 stand there as they are.
pub fn clock(seed: u64, step: u64) -> Tensor {
    let hash = |word| pcg4d([word, 0, 0, 0])[0];
    // 0 where the upper half is.
    let upper = hash((seed >> 32) as u32) ^ hash(0);
    Tensor::u32([2], vec![seed as u32 ^ upper, step as u32])
}

/// Four random words of a counter of four words: the hash pcg4d of Jarzynski and Olano 2020, *Hash Functions for GPU
/// Rendering*, and one more xor-shift at the end, without which the lowest bits are biased.
#[inline(always)]
pub fn pcg4d(counter: [u32; 4]) -> [u32; 4] {
    let mut v = counter.map(|word| word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for _ in 0..2 {
        let [mut x, mut y, mut z, mut w] = v;
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        v = [x, y, z, w].map(|word| word ^ (word >> 16));
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_of_a_seed_count() {
        let clock = |seed| super::clock(seed, 3).as_u32().unwrap().to_vec();
        assert_eq!(clock(42), [42, 3]);
        let seeds = [0, 1, 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX];
        let words: std::collections::BTreeSet<u32> = seeds.iter().map(|seed| clock(*seed)[0]).collect();
        assert_eq!(words.len(), seeds.len());
    }

    #[test]
    fn bits_are_balanced_and_neighbouring_counters_are_uncorrelated() {
        let n = 1 << 14;
        let words: Vec<[u32; 4]> = (0..n).map(|i| pcg4d([7, 3, 1, i])).collect();
        let limit = 5.0 * (f64::from(n) / 4.0).sqrt();
        for lane in 0..4 {
            for bit in 0..32 {
                let bit_of = |word: &[u32; 4]| word[lane] >> bit & 1;
                let ones: u32 = words.iter().map(bit_of).sum();
                assert!((f64::from(ones) - f64::from(n) / 2.0).abs() < limit, "bit {bit} of word {lane}: {ones} ones");
                let flips: u32 = words.windows(2).map(|pair| bit_of(&pair[0]) ^ bit_of(&pair[1])).sum();
                assert!(
                    (f64::from(flips) - f64::from(n) / 2.0).abs() < limit,
                    "bit {bit} of word {lane}: {flips} flips"
                );
            }
        }
    }
}
