//! Parameters as torchvision and timm have them: what they call them, and how they lay them out.
//!
//! Networks of the zoo have torchvision's names, and timm's where torchvision has no such network. What is called otherwise in
//! timm, or was when its weights were published, has the names here by [`name`]. Layouts follow from the number of axes alone.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::F32,
};

/// The learned position embeddings of the vision transformers, `[1, 1 + patches, width]`: the only parameter whose shape
/// depends on the size of the images.
pub const POSITIONS: &str = "pos_embed";

/// What gabor calls the parameter that torchvision or timm call `name` in `model`; `None` for what no network here has, such
/// as batch norm's count of batches.
pub fn name(model: &str, name: &str) -> Option<String> {
    if name.ends_with(".num_batches_tracked") {
        return None;
    }
    let parts: Vec<&str> = name.split('.').collect();
    let renamed = match model {
        "densenet121" => densenet(&parts),
        "convnext_tiny" => convnext(&parts),
        "mobilenet_v2" => mobilenet(&parts),
        "vgg11" | "vgg16" => vgg(&parts),
        _ if model.starts_with("efficientnet_") => efficientnet(&parts),
        _ => None,
    };
    Some(renamed.unwrap_or_else(|| name.to_string()))
}

/// torchvision's published weights have the names of an earlier version: `denselayer1.norm.1.weight`.
fn densenet(parts: &[&str]) -> Option<String> {
    match parts {
        [before @ .., kind @ ("norm" | "conv"), number @ ("1" | "2"), leaf] => {
            Some(format!("{}.{kind}{number}.{leaf}", before.join(".")))
        }
        _ => None,
    }
}

/// timm's names.
fn convnext(parts: &[&str]) -> Option<String> {
    let stage = |number: &str, of_blocks: usize| Some(2 * usize::from(number.parse::<u8>().ok()?) + of_blocks);
    Some(match parts {
        ["stem", number, leaf] => format!("features.0.{number}.{leaf}"),
        ["stages", at, "downsample", number, leaf] => format!("features.{}.{number}.{leaf}", stage(at, 0)?),
        ["stages", at, "blocks", block, "gamma"] => format!("features.{}.{block}.layer_scale", stage(at, 1)?),
        ["stages", at, "blocks", block, layer @ .., leaf] => {
            let number = match layer {
                ["conv_dw"] => 0,
                ["norm"] => 2,
                ["mlp", "fc1"] => 3,
                ["mlp", "fc2"] => 5,
                _ => return None,
            };
            format!("features.{}.{block}.block.{number}.{leaf}", stage(at, 1)?)
        }
        ["head", "norm", leaf] => format!("classifier.0.{leaf}"),
        ["head", "fc", leaf] => format!("classifier.2.{leaf}"),
        _ => return None,
    })
}

/// timm's names.
fn efficientnet(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["conv_stem", leaf] => format!("features.0.0.{leaf}"),
        ["bn1", leaf] => format!("features.0.1.{leaf}"),
        ["blocks", stage, block, layer @ .., leaf] => {
            let stage = usize::from(stage.parse::<u8>().ok()?);
            // Blocks of the first stage do not expand: their depthwise convolution comes first.
            let place = match (stage, layer) {
                (0, ["conv_dw"]) | (1.., ["conv_pw"]) => "0.0",
                (_, ["bn1"]) => "0.1",
                (1.., ["conv_dw"]) => "1.0",
                (1.., ["bn2"]) => "1.1",
                (0, ["se", "conv_reduce"]) => "1.fc1",
                (0, ["se", "conv_expand"]) => "1.fc2",
                (0, ["conv_pw"]) => "2.0",
                (0, ["bn2"]) => "2.1",
                (1.., ["se", "conv_reduce"]) => "2.fc1",
                (1.., ["se", "conv_expand"]) => "2.fc2",
                (1.., ["conv_pwl"]) => "3.0",
                (1.., ["bn3"]) => "3.1",
                _ => return None,
            };
            format!("features.{}.{block}.block.{place}.{leaf}", stage + 1)
        }
        ["conv_head", leaf] => format!("features.8.0.{leaf}"),
        ["bn2", leaf] => format!("features.8.1.{leaf}"),
        ["classifier", leaf] => format!("classifier.1.{leaf}"),
        _ => return None,
    })
}

/// timm's names.
fn mobilenet(parts: &[&str]) -> Option<String> {
    const DEPTHS: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];
    Some(match parts {
        ["conv_stem", leaf] => format!("features.0.0.{leaf}"),
        ["bn1", leaf] => format!("features.0.1.{leaf}"),
        ["blocks", stage, block, layer, leaf] => {
            let (stage, block) = (usize::from(stage.parse::<u8>().ok()?), usize::from(block.parse::<u8>().ok()?));
            let place = match (stage, *layer) {
                (0, "conv_dw") | (1.., "conv_pw") => "0.0",
                (_, "bn1") => "0.1",
                (0, "conv_pw") => "1",
                (1.., "conv_dw") => "1.0",
                (1.., "bn2") => "1.1",
                (0, "bn2") | (1.., "conv_pwl") => "2",
                (1.., "bn3") => "3",
                _ => return None,
            };
            let number = 1 + DEPTHS.get(..stage)?.iter().sum::<usize>() + block;
            format!("features.{number}.conv.{place}.{leaf}")
        }
        ["conv_head", leaf] => format!("features.18.0.{leaf}"),
        ["bn2", leaf] => format!("features.18.1.{leaf}"),
        ["classifier", leaf] => format!("classifier.1.{leaf}"),
        _ => return None,
    })
}

/// timm's names, where the hidden dense layers are convolutions over the whole of what they read.
fn vgg(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["pre_logits", "fc1", leaf] => format!("classifier.0.{leaf}"),
        ["pre_logits", "fc2", leaf] => format!("classifier.3.{leaf}"),
        ["head", "fc", leaf] => format!("classifier.6.{leaf}"),
        _ => return None,
    })
}

/// The shape in which a parameter of `axes` axes here comes that has this shape in PyTorch.
pub fn shape(theirs: &[usize], axes: usize) -> Vec<usize> {
    match (theirs, axes) {
        // [out, in, kh, kw]
        (&[out, inner, height, width], 4) => vec![height, width, inner, out],
        (&[out, inner], 2) => vec![inner, out],
        // A convolution over all that it reads, as a dense layer.
        (&[out, inner, height, width], 2) => vec![inner.saturating_mul(height).saturating_mul(width), out],
        // A scale of each channel, [channels, 1, 1].
        (&[channels, 1, 1], 1) => vec![channels],
        _ => theirs.to_vec(),
    }
}

/// Values of a parameter of `axes` axes here, row-major, of those that PyTorch has in this shape.
pub fn values(values: Vec<f32>, theirs: &[usize], axes: usize) -> Vec<f32> {
    match (theirs, axes) {
        (&[out, inner, height, width], 4) => transposed(&values, out, inner * height * width, |at| {
            let (place, channel) = (at / inner, at % inner);
            channel * height * width + place
        }),
        (&[out, ..], 2) => transposed(&values, out, values.len() / out.max(1), |at| at),
        _ => values,
    }
}

/// `[rows, columns]` with the rows last, row number `at` of the result being the column `column(at)`.
fn transposed(values: &[f32], rows: usize, columns: usize, column: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for at in 0..columns {
        let column = column(at);
        result.extend((0..rows).map(|row| values[row * columns + column]));
    }
    result
}

/// Position embeddings `[1 + rows * columns, width]` for images of another size, as timm makes them: those of patches are an
/// image, which is resized bicubically, with antialiasing; that of the class token stays. `None` where there is no such grid.
pub fn positions(values: &[f32], width: usize, from: [usize; 2], to: [usize; 2]) -> Option<Vec<f32>> {
    let [count, new] = [from, to].map(|[rows, columns]| rows * columns);
    let [from, to] = [from, to].map(|[rows, columns]| Some((u32::try_from(columns).ok()?, u32::try_from(rows).ok()?)));
    let ((from_columns, from_rows), (columns, rows)) = (from?, to?);
    let (class, patches) = values.split_at_checked(width)?;
    if patches.len() != count * width || count == 0 || new == 0 {
        return None;
    }
    let mut result = class.to_vec();
    result.resize((1 + new) * width, 0.0);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
    let mut resizer = Resizer::new();
    for channel in 0..width {
        let plane: Vec<F32> = patches.iter().skip(channel).step_by(width).map(|value| F32::new(*value)).collect();
        let source = TypedImageRef::new(from_columns, from_rows, &plane).ok()?;
        let mut target = TypedImage::<F32>::new(columns, rows);
        resizer.resize_typed(&source, &mut target, &options).ok()?;
        for (at, value) in target.pixels().iter().enumerate() {
            result[(1 + at) * width + channel] = value.0;
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_known() {
        for (model, theirs, ours) in [
            ("resnet18", "layer1.0.bn1.weight", "layer1.0.bn1.weight"),
            (
                "densenet121",
                "features.denseblock1.denselayer1.norm.1.weight",
                "features.denseblock1.denselayer1.norm1.weight",
            ),
            ("densenet121", "features.transition1.norm.bias", "features.transition1.norm.bias"),
            ("convnext_tiny", "stages.2.blocks.8.mlp.fc2.bias", "features.5.8.block.5.bias"),
            ("convnext_tiny", "stages.1.downsample.1.weight", "features.2.1.weight"),
            ("convnext_tiny", "head.norm.weight", "classifier.0.weight"),
            ("efficientnet_b0", "blocks.0.0.se.conv_expand.bias", "features.1.0.block.1.fc2.bias"),
            ("efficientnet_b0", "blocks.6.0.conv_pwl.weight", "features.7.0.block.3.0.weight"),
            ("efficientnet_b3", "bn2.running_var", "features.8.1.running_var"),
            ("mobilenet_v2", "blocks.2.1.conv_pwl.weight", "features.5.conv.2.weight"),
            ("mobilenet_v2", "blocks.0.0.bn2.bias", "features.1.conv.2.bias"),
            ("vgg16", "pre_logits.fc2.weight", "classifier.3.weight"),
        ] {
            assert_eq!(name(model, theirs).as_deref(), Some(ours));
        }
        assert_eq!(name("resnet18", "bn1.num_batches_tracked"), None);
    }

    #[test]
    fn layouts_are_turned() {
        // [out, in, kh, kw] of 2, 3, 1, 2: the value is the index.
        let numbers = |count: usize| (0..count).map(|at| at as f32).collect::<Vec<f32>>();
        assert_eq!(shape(&[2, 3, 1, 2], 4), [1, 2, 3, 2]);
        assert_eq!(
            values(numbers(12), &[2, 3, 1, 2], 4),
            [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0]
        );
        assert_eq!(
            (shape(&[2, 3], 2), values(numbers(6), &[2, 3], 2)),
            (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
        );
        assert_eq!((shape(&[3, 1, 1], 1), values(numbers(3), &[3, 1, 1], 1)), (vec![3], numbers(3)));
        assert_eq!(shape(&[1, 5, 2], 3), [1, 5, 2]);
        // A convolution of 2 by 2 pixels as a dense layer, in the order of PyTorch's flatten.
        assert_eq!(shape(&[1, 2, 2, 2], 2), [8, 1]);
        assert_eq!(values(numbers(8), &[1, 2, 2, 2], 2), numbers(8));
    }

    /// The values are those that `tests/pytorch/make_weights.py` prints.
    #[test]
    fn positions_are_resized_as_timm_does() {
        let values: Vec<f32> = (0..20).map(|at| (at * at % 7) as f32).collect();
        let smaller =
            [0.0, 1.0, 2.607_298, 3.111_383, 2.013_474_5, 1.323_265_8, 1.323_265_8, 2.013_474_5, 3.111_383, 2.607_298];
        let larger =
            [0.0, 1.0, 4.319_487, 1.728_808_9, 3.452_049_5, 2.856_427, 2.0, 4.104_478, 1.152_428_2, 1.504_621_7];
        for (grid, expected) in [([2, 2], smaller), ([4, 5], larger)] {
            let resized = positions(&values, 2, [3, 3], grid).unwrap();
            assert_eq!(resized.len(), 2 * (1 + grid[0] * grid[1]));
            for (got, expected) in resized.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "{grid:?}: {resized:?}");
            }
        }
        assert_eq!(positions(&values, 2, [3, 3], [3, 3]).unwrap(), values);
        assert_eq!(positions(&values, 2, [2, 4], [3, 3]), None);
    }
}
