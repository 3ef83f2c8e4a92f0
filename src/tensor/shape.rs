//! Shapes: the extents of a tensor along its axes.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Serialize};

/// The extents of a tensor, outermost first. Images are `[batch, height, width, channels]`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The shape of a single number, `[]`.
    pub fn scalar() -> Self {
        Self::default()
    }

    /// Number of elements: the product of the extents, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Extent of the innermost dimension; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self.0[axis];
        }
        strides
    }

    /// The shape that `self` and `other` broadcast to, by NumPy's rule: shapes are aligned at their last dimension
    /// and an extent of 1 stretches. `None` where two extents differ and neither is 1.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let extent = |shape: &Shape, axis: usize| (axis + shape.rank()).checked_sub(rank).map_or(1, |at| shape.0[at]);
        (0..rank)
            .map(|axis| match (extent(self, axis), extent(other, axis)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Shape)
    }

    /// Strides in elements with which a tensor of this shape is read along the axes of `output`, which it broadcasts
    /// to: 0 where it is stretched.
    pub fn broadcast_strides(&self, output: &Shape) -> Vec<usize> {
        let own = self.strides();
        let lead = output.rank() - self.rank();
        (0..output.rank())
            .map(|axis| match axis.checked_sub(lead) {
                Some(at) if self.0[at] == output[axis] => own[at],
                _ => 0,
            })
            .collect()
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(extents: Vec<usize>) -> Self {
        Self(extents)
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        Self(extents.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Self {
        Self(extents.to_vec())
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        shape.clone()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_at_the_last_dimension() {
        let image = Shape::from([2, 5, 5, 3]);
        let channels = Shape::from([3]);
        assert_eq!(image.broadcast(&channels), Some(image.clone()));
        assert_eq!(channels.broadcast_strides(&image), [0, 0, 0, 1]);
        assert_eq!(Shape::from([2, 1]).broadcast(&Shape::from([3])), Some(Shape::from([2, 3])));
        assert_eq!(Shape::from([2, 4]).broadcast(&Shape::from([3])), None);
        assert_eq!(Shape::scalar().broadcast(&image), Some(image));
    }
}
