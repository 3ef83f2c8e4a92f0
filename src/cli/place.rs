//! Where a picture goes, and whether two places are one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The file that a picture is written to, of this ending: the one `given`, or else `stem`, or `stem-N` with the next free number.
/// What is there already stays.
pub fn free_place(given: Option<PathBuf>, stem: &str, ending: &str) -> Result<PathBuf> {
    let Some(path) = given else {
        let numbered = (2..).map(|number| PathBuf::from(format!("{stem}-{number}.{ending}")));
        let mut names = std::iter::once(PathBuf::from(format!("{stem}.{ending}"))).chain(numbered);
        return names.find(|path| !path.exists()).context("there is no name left");
    };
    let is_picture = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending));
    ensure!(is_picture, "{} is no name of a picture: --out takes a .{ending} file", path.display());
    ensure!(!path.exists(), "{} is there already: give --out another name, or remove it", path.display());
    Ok(path)
}

/// Whether two paths are of the same file or folder, which is there.
pub fn same_place(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
