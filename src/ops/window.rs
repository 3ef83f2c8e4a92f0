//! The geometry that convolution and pooling share: a window that slides over height and width.

use serde::{Deserialize, Serialize};

use crate::graph::ShapeError;

/// How an image is extended at its edges before a window slides over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Padding {
    /// Not at all: the window stays inside.
    Valid,
    /// So that the output has `ceil(input / stride)` positions; an odd remainder goes to the bottom and the right.
    Same,
    /// By these rows and columns.
    Explicit {
        /// Rows above.
        top: usize,
        /// Rows below.
        bottom: usize,
        /// Columns to the left.
        left: usize,
        /// Columns to the right.
        right: usize,
    },
}

impl Padding {
    /// `n` rows or columns at each edge.
    pub fn all(n: usize) -> Self {
        Padding::Explicit { top: n, bottom: n, left: n, right: n }
    }
}

/// A window along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window1d {
    /// Extent of the input.
    pub input: usize,
    /// Extent of the window.
    pub kernel: usize,
    /// Distance of neighbouring windows.
    pub stride: usize,
    /// Distance of neighbouring taps of a window.
    pub dilation: usize,
    /// Positions added before the input.
    pub before: usize,
    /// Number of windows.
    pub output: usize,
}

/// A window over height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Along the height.
    pub height: Window1d,
    /// Along the width.
    pub width: Window1d,
}

/// What a user chooses of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOptions {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Distance of neighbouring windows along height and width.
    pub stride: [usize; 2],
    /// Distance of neighbouring taps of a window along height and width.
    pub dilation: [usize; 2],
    /// What is added at the edges.
    pub padding: Padding,
    /// Round the number of windows up rather than down: the last one may reach over the padded edge.
    pub ceil: bool,
}

impl WindowOptions {
    /// The window over an image of `height` by `width`.
    ///
    /// # Errors
    /// If an option is 0 or the window does not fit into the padded image.
    pub fn over(&self, height: usize, width: usize) -> Result<Window, ShapeError> {
        let (rows, columns) = match self.padding {
            Padding::Valid => (Some((0, 0)), Some((0, 0))),
            Padding::Same => (None, None),
            Padding::Explicit { top, bottom, left, right } => (Some((top, bottom)), Some((left, right))),
        };
        Ok(Window { height: self.along(0, "height", height, rows)?, width: self.along(1, "width", width, columns)? })
    }

    fn along(
        &self,
        axis: usize,
        name: &str,
        input: usize,
        padding: Option<(usize, usize)>,
    ) -> Result<Window1d, ShapeError> {
        let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err(ShapeError::new(format!(
                "kernel {kernel}, stride {stride} and dilation {dilation} along the {name} must all be at least 1"
            )));
        }
        let span = (kernel - 1) * dilation + 1;
        let (before, after) = padding.unwrap_or_else(|| {
            let total = ((input.div_ceil(stride).max(1) - 1) * stride + span).saturating_sub(input);
            (total / 2, total - total / 2)
        });
        let padded = input + before + after;
        if padded < span {
            return Err(ShapeError::new(format!(
                "a kernel of {kernel} (spanning {span} with dilation {dilation}) does not fit into a {name} of {input} \
                 padded to {padded}: use a larger image, a smaller kernel or more padding"
            )));
        }
        let mut output = (padded - span) / stride + 1;
        // A window that would begin in the padding after the image sees nothing: it is not added.
        if self.ceil && !(padded - span).is_multiple_of(stride) && output * stride < input + before {
            output += 1;
        }
        Ok(Window1d { input, kernel, stride, dilation, before, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kernel: usize, stride: usize, padding: Padding, ceil: bool) -> WindowOptions {
        WindowOptions { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding, ceil }
    }

    #[test]
    fn same_padding_keeps_the_extent_and_puts_the_odd_row_last() {
        let window = options(3, 2, Padding::Same, false).over(224, 7).unwrap();
        assert_eq!((window.height.output, window.height.before), (112, 0));
        assert_eq!((window.width.output, window.width.before), (4, 1));
    }

    #[test]
    fn ceil_adds_the_last_partial_window() {
        assert_eq!(options(2, 2, Padding::Valid, false).over(5, 5).unwrap().height.output, 2);
        assert_eq!(options(2, 2, Padding::Valid, true).over(5, 5).unwrap().height.output, 3);
        assert_eq!(options(3, 3, Padding::all(1), true).over(4, 4).unwrap().height.output, 2);
    }

    #[test]
    fn a_window_larger_than_the_image_is_an_error_that_names_the_extents() {
        let error = options(5, 1, Padding::Valid, false).over(4, 9).unwrap_err().to_string();
        assert!(error.contains("height of 4"), "{error}");
    }
}
