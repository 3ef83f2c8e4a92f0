//! Pretrained weights from their public homes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Checksum, Progress, RemoteFile, fetch};
use crate::data::DataError;

/// Weights of a model of the zoo, trained on ImageNet, that can be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicWeights {
    /// The model.
    pub model: &'static str,
    /// Its file.
    pub file: RemoteFile,
    /// Base URL of the file.
    home: &'static str,
}

const TORCHVISION: &str = "https://download.pytorch.org/models/";
const DEIT: &str = "https://dl.fbaipublicfiles.com/deit/";
const TIMM: &str = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/";

/// Weights whose file's name ends in the first eight digits of its SHA-256.
const fn weights(model: &'static str, home: &'static str, name: &'static str, digits: &'static str) -> PublicWeights {
    PublicWeights { model, file: RemoteFile { name, checksum: Checksum::Sha256Prefix(digits) }, home }
}

impl PublicWeights {
    /// All that there are. Of several versions torchvision's second one, which is trained longer; the vision transformers are those
    /// of Touvron et al. (2021), and seresnet50 is timm's (Wightman et al. 2021).
    pub const ALL: &[Self] = &[
        weights("resnet18", TORCHVISION, "resnet18-f37072fd.pth", "f37072fd"),
        weights("resnet34", TORCHVISION, "resnet34-b627a593.pth", "b627a593"),
        weights("resnet50", TORCHVISION, "resnet50-11ad3fa6.pth", "11ad3fa6"),
        weights("resnet101", TORCHVISION, "resnet101-cd907fc2.pth", "cd907fc2"),
        weights("resnet152", TORCHVISION, "resnet152-f82ba261.pth", "f82ba261"),
        weights("resnext50_32x4d", TORCHVISION, "resnext50_32x4d-1a0047aa.pth", "1a0047aa"),
        weights("seresnet50", TIMM, "seresnet50_a1_0-ffa00869.pth", "ffa00869"),
        weights("vgg11", TORCHVISION, "vgg11-8a719046.pth", "8a719046"),
        weights("vgg16", TORCHVISION, "vgg16-397923af.pth", "397923af"),
        weights("densenet121", TORCHVISION, "densenet121-a639ec97.pth", "a639ec97"),
        weights("mobilenet_v2", TORCHVISION, "mobilenet_v2-7ebf99e0.pth", "7ebf99e0"),
        weights("mobilenet_v3_large", TORCHVISION, "mobilenet_v3_large-5c1a4163.pth", "5c1a4163"),
        weights("mobilenet_v3_small", TORCHVISION, "mobilenet_v3_small-047dcff4.pth", "047dcff4"),
        weights("efficientnet_b0", TORCHVISION, "efficientnet_b0_rwightman-7f5810bc.pth", "7f5810bc"),
        weights("efficientnet_b1", TORCHVISION, "efficientnet_b1-c27df63c.pth", "c27df63c"),
        weights("efficientnet_b2", TORCHVISION, "efficientnet_b2_rwightman-c35c1473.pth", "c35c1473"),
        weights("efficientnet_b3", TORCHVISION, "efficientnet_b3_rwightman-b3899882.pth", "b3899882"),
        weights("efficientnet_b4", TORCHVISION, "efficientnet_b4_rwightman-23ab8bcd.pth", "23ab8bcd"),
        weights("efficientnet_b5", TORCHVISION, "efficientnet_b5_lukemelas-1a07897c.pth", "1a07897c"),
        weights("efficientnet_b6", TORCHVISION, "efficientnet_b6_lukemelas-24a108a5.pth", "24a108a5"),
        weights("efficientnet_b7", TORCHVISION, "efficientnet_b7_lukemelas-c5b4e57e.pth", "c5b4e57e"),
        weights("convnext_tiny", TORCHVISION, "convnext_tiny-983f1562.pth", "983f1562"),
        weights("vit_tiny", DEIT, "deit_tiny_patch16_224-a1311bcf.pth", "a1311bcf"),
        weights("vit_small", DEIT, "deit_small_patch16_224-cd65a155.pth", "cd65a155"),
    ];

    /// Those of this model.
    pub fn of(model: &str) -> Option<Self> {
        Self::ALL.iter().find(|weights| weights.model == model).copied()
    }
}

/// Downloads weights into `folder`, which is made if need be, and returns their file. They come from their public home, or from
/// `base_url` (the URL of the file less its name), and are checked by the digits of their SHA-256 that the file's name holds. A file
/// that is there already is not downloaded again, and a download that was cut off goes on where it stopped.
///
/// # Errors
/// [`DataError::Download`] if the home does not give the file with the right checksum, or if the folder cannot be written.
pub fn download_weights(
    weights: PublicWeights,
    folder: &Path,
    base_url: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, DataError> {
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    fetch(&weights.file, &[base_url.unwrap_or(weights.home)], folder, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_digits_that_are_checked() {
        for weights in PublicWeights::ALL {
            let Checksum::Sha256Prefix(digits) = weights.file.checksum else { panic!("{weights:?}") };
            assert_eq!(weights.file.name.rsplit_once('-').unwrap().1, format!("{digits}.pth"));
            assert!(digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{weights:?}");
            assert!(weights.home.starts_with("https://") && weights.home.ends_with('/'), "{weights:?}");
            assert_eq!(PublicWeights::of(weights.model), Some(*weights));
        }
    }
}
