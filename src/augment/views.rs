//! Augmentation at test time: a prediction from several views of an image.

use serde::{Deserialize, Serialize};

use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    ops::{Fill, Interpolation, Resampling},
    tensor::Tensor,
};

/// Views of an image whose outputs are averaged, logits before they become probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Views {
    /// The image alone.
    #[default]
    None,
    /// The image and its mirror image, left to right.
    Flip,
    /// These two, and half as much each of both moved by a pixel up and to the left, and down and to the right (as in Jordan
    /// 2024, arXiv:2404.00498, section 3.6).
    FlipTranslate,
}

impl Views {
    /// The share of each view, whether it is mirrored, and by how many pixels it is moved along both axes.
    fn list(self) -> Vec<(f64, bool, f32)> {
        match self {
            Self::None => vec![(1.0, false, 0.0)],
            Self::Flip => vec![(0.5, false, 0.0), (0.5, true, 0.0)],
            Self::FlipTranslate => {
                let shares = [(0.25, 0.0), (0.125, -1.0), (0.125, 1.0)];
                shares.into_iter().flat_map(|(share, by)| [false, true].map(|flip| (share, flip, by))).collect()
            }
        }
    }

    /// Each view of images u8 `[batch, height, width, channels]`, normalised by mean and standard deviation f32 `[channels]`, with its
    /// share; f32 of the same shape. What lies beyond the edges is the image mirrored.
    ///
    /// # Errors
    /// If the types are others than these.
    pub fn apply(
        self,
        graph: &mut Graph,
        images: Value,
        mean: Value,
        deviation: Value,
    ) -> Result<Vec<(f64, Value)>, GraphError> {
        let [batch, _, width, _] = graph.shape(images)[..] else {
            return Ok(vec![(1.0, graph.normalise_images(images, mean, deviation)?)]);
        };
        let nearest = Resampling { interpolation: Interpolation::Nearest, fill: Fill::Reflect, fill_value: 0.0 };
        let view = |(share, flip, by): (f64, bool, f32)| {
            if !flip && by == 0.0 {
                return Ok((share, graph.normalise_images(images, mean, deviation)?));
            }
            let (across, from) = if flip { (-1.0, width as f32 - 1.0 - by) } else { (1.0, by) };
            let maps = [1.0, 0.0, by, 0.0, across, from].repeat(batch);
            let maps = graph.constant(Tensor::f32([batch, 6], maps));
            let moved = graph.resample(images, maps, nearest)?;
            let normalised = (Expr::Input(0) / 255.0 - Expr::Input(1)) / Expr::Input(2);
            Ok((share, graph.pointwise("normalise", normalised, &[moved, mean, deviation])?))
        };
        self.list().into_iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    /// The images that a prediction for `1 2 3 / 4 5 6` is made of, and their shares.
    #[test]
    fn views_are_mirrored_and_moved() {
        let image = Tensor::u8([1, 2, 3, 1], vec![1, 2, 3, 4, 5, 6]);
        let shown = |views: Views| {
            let mut found = Vec::new();
            for at in 0..views.list().len() {
                let values = check::evaluate(std::slice::from_ref(&image), |graph, x| {
                    let mean = graph.constant(Tensor::f32([1], vec![0.0]));
                    let deviation = graph.constant(Tensor::f32([1], vec![1.0 / 255.0]));
                    let (_, view) = views.apply(graph, x[0], mean, deviation)?[at];
                    Ok(view)
                });
                let pixels: Vec<u32> = values.as_f32().unwrap().iter().map(|value| value.round() as u32).collect();
                found.push((views.list()[at].0, pixels));
            }
            found
        };
        assert_eq!(shown(Views::None), [(1.0, vec![1, 2, 3, 4, 5, 6])]);
        assert_eq!(shown(Views::Flip), [(0.5, vec![1, 2, 3, 4, 5, 6]), (0.5, vec![3, 2, 1, 6, 5, 4])]);
        let all = shown(Views::FlipTranslate);
        assert_eq!(all.iter().map(|(share, _)| share).sum::<f64>(), 1.0);
        // Moved down and to the right by what lies beyond the edges, and the mirror image of that.
        assert_eq!(all[2], (0.125, vec![1, 1, 2, 1, 1, 2]));
        assert_eq!(all[3], (0.125, vec![3, 3, 2, 3, 3, 2]));
        assert_eq!(all[4], (0.125, vec![5, 6, 6, 5, 6, 6]));
    }
}
