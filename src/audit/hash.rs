//! Hashes that differ in few bits, found without comparing each with each.

/// Bits that two hashes may differ in.
pub(super) const MOST_BITS: u32 = 7;
/// Parts that a hash is looked up by. Of [`MOST_BITS`] bits that differ, one part has at most one.
const PARTS: usize = 4;
/// Bits of a part.
const BITS: usize = 16;

/// Multi-index hashing (Norouzi, Punjani and Fleet, Fast Search in Hamming Space with Multi-Index Hashing, 2012): a table for each
/// part of the hashes, in which those are looked up whose part is the same but for one bit.
pub(super) struct HashIndex<'a> {
    hashes: &'a [u64],
    tables: Vec<Table>,
}

/// The hashes in the order of one of their parts.
struct Table {
    /// For each value of the part, where those that have it begin.
    starts: Vec<u32>,
    /// Their numbers.
    numbers: Vec<u32>,
}

fn part(hash: u64, at: usize) -> usize {
    (hash >> (BITS * at)) as usize & ((1 << BITS) - 1)
}

impl<'a> HashIndex<'a> {
    /// One of these hashes, which are known by their places.
    pub fn new(hashes: &'a [u64]) -> Self {
        let table = |at: usize| {
            let mut starts = vec![0u32; (1 << BITS) + 1];
            hashes.iter().for_each(|&hash| starts[part(hash, at) + 1] += 1);
            (0..1 << BITS).for_each(|value| starts[value + 1] += starts[value]);
            let mut next = starts.clone();
            let mut numbers = vec![0; hashes.len()];
            for (number, &hash) in hashes.iter().enumerate() {
                let place = &mut next[part(hash, at)];
                numbers[*place as usize] = number as u32;
                *place += 1;
            }
            Table { starts, numbers }
        };
        Self { hashes, tables: (0..PARTS).map(table).collect() }
    }

    /// Tells `found` of each hash that differs from this one in at most [`MOST_BITS`] bits, once.
    pub fn near(&self, hash: u64, mut found: impl FnMut(usize)) {
        for (at, table) in self.tables.iter().enumerate() {
            let own = part(hash, at);
            let values = std::iter::once(own).chain((0..BITS).map(|bit| own ^ (1 << bit)));
            for value in values {
                let range = table.starts[value] as usize..table.starts[value + 1] as usize;
                for &number in &table.numbers[range] {
                    let differing = hash ^ self.hashes[number as usize];
                    let seen = (0..at).any(|earlier| part(differing, earlier).count_ones() <= 1);
                    if differing.count_ones() <= MOST_BITS && !seen {
                        found(number as usize);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_comparing_each_finds(base: u64, flips in prop::collection::vec(
            prop::collection::vec(0u32..64, 0..12), 1..60,
        )) {
            let hashes: Vec<u64> =
                flips.iter().map(|bits| bits.iter().fold(base, |hash, bit| hash ^ (1 << bit))).collect();
            let index = HashIndex::new(&hashes);
            let mut found = Vec::new();
            index.near(base, |number| found.push(number));
            found.sort_unstable();
            let near = |number: &usize| (hashes[*number] ^ base).count_ones() <= MOST_BITS;
            prop_assert_eq!(found, (0..hashes.len()).filter(near).collect::<Vec<_>>());
        }
    }
}
