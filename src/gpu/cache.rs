//! Files in the user's cache folder.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Writes `parts` one after the other: beside and renamed, so that a reader never sees half a file.
pub(super) fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.persist(path)?;
    Ok(())
}
