//! The image files that a person means.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use gabor::data::images_in;

/// Stands for a list of paths on standard input.
const STANDARD_INPUT: &str = "-";

/// The files that are named: by their paths, by the folder that they are in at any depth, by a pattern that names several, or
/// in a list on standard input, a path a line or with zero bytes between them. A file that is not there is left to be reported with those that cannot be read.
pub fn find(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in named {
        if name == Path::new(STANDARD_INPUT) {
            let list = io::read_to_string(io::stdin()).context("the list of paths on standard input is no text")?;
            // Between zero bytes as find -print0 has them, or else a path a line.
            let separator = if list.contains('\0') { '\0' } else { '\n' };
            let paths = list.split(separator).map(|path| if separator == '\0' { path } else { path.trim() });
            found.extend(paths.filter(|path| !path.is_empty()).map(PathBuf::from));
        } else if name.is_dir() {
            let images = images_in(name)?;
            ensure!(!images.is_empty(), "{} holds no image, nor does a folder in it", name.display());
            found.extend(images);
        } else if let Some(pattern) =
            name.to_str().filter(|name| name.contains(['*', '?', '[']) && !Path::new(name).exists())
        {
            let paths = glob::glob(pattern).with_context(|| format!("{pattern} is no pattern of paths"))?;
            let paths = paths.collect::<Result<Vec<PathBuf>, _>>()?;
            ensure!(!paths.is_empty(), "no file matches {pattern}");
            found.extend(paths.into_iter().filter(|path| !path.is_dir()));
        } else {
            found.push(name.clone());
        }
    }
    ensure!(!found.is_empty(), "no image is named");
    Ok(found)
}
