//! Where pretrained weights are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gabor::{data::download::PublicWeights, models::ZOO, train::Pretrained};

use super::run_folder::weights_file;

/// The folder that weights are downloaded into.
pub fn folder() -> Result<PathBuf> {
    let cache = dirs::cache_dir().context("this user has no cache folder: give a folder to put the weights into")?;
    Ok(cache.join("gabor/weights"))
}

/// Opens the weights that --pretrained names: a file, a run folder, or a model whose weights were downloaded.
pub fn open(given: &Path) -> Result<Pretrained> {
    if given.exists() {
        return Ok(Pretrained::open(&weights_file(given, None)?)?);
    }
    let name = given.to_string_lossy();
    let Some(weights) = PublicWeights::of(&name) else {
        if ZOO.iter().any(|entry| entry.name == name) {
            bail!("there are no public weights of {name}: give a weights file or a run folder");
        }
        bail!(
            "{name} does not exist: give a weights file, a run folder, or the name of a model whose weights were downloaded"
        );
    };
    let path = folder()?.join(weights.file.name);
    if !path.is_file() {
        bail!("the weights of {name} are not in {}: run gabor download weights {name}", folder()?.display());
    }
    Ok(Pretrained::open(&path)?)
}
