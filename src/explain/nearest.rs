//! Images whose embeddings are alike.

/// An image that is like another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Which one of those that were compared.
    pub index: usize,
    /// The cosine of the angle between both embeddings: 1 for the same direction.
    pub similarity: f32,
}

/// The `count` of the vectors `others`, f32 `[images, width]`, that are most like `embedding`, f32 `[width]`, by cosine similarity,
/// the most alike first. One of zeros is like none.
pub fn nearest(embedding: &[f32], others: &[f32], count: usize) -> Vec<Neighbour> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let own = dot(embedding, embedding).sqrt();
    let similarity = |other: &[f32]| {
        let lengths = own * dot(other, other).sqrt();
        if lengths > 0.0 { (dot(embedding, other) / lengths) as f32 } else { 0.0 }
    };
    let rows = others.chunks_exact(embedding.len().max(1)).enumerate();
    let mut all: Vec<Neighbour> =
        rows.map(|(index, other)| Neighbour { index, similarity: similarity(other) }).collect();
    all.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_same_direction_come_first() {
        let others = [0.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.0, 0.0, 6.0, 8.0];
        let found = nearest(&[3.0, 4.0], &others, 4);
        let expected = [(1, 1.0), (4, 1.0), (0, 0.8), (3, 0.0)];
        assert_eq!(found.iter().map(|one| (one.index, one.similarity)).collect::<Vec<_>>(), expected);
        assert!(nearest(&[0.0, 0.0], &others, 9).iter().all(|one| one.similarity == 0.0));
    }
}
