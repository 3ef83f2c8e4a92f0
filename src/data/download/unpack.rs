//! Archives to folders.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar::Archive;

use crate::data::DataError;

/// Unpacks the files of a `.tar.gz` archive into `folder`, less the archive's own top folder. Each file is written
/// under another name first, so that one with its own name is whole. Links and devices are passed over.
///
/// # Errors [`DataError::UnsafeArchive`] if an entry's path leads out of the folder, [`DataError::Damaged`] if the
/// archive cannot be read, and [`DataError::Io`] if a file cannot be written.
pub fn unpack(archive: &Path, folder: &Path) -> Result<(), DataError> {
    let damaged = |error: io::Error| DataError::Damaged { path: archive.into(), reason: error.to_string() };
    let file = File::open(archive).map_err(DataError::io(archive))?;
    let mut entries = Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in entries.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let Some(inside) = inside(&path) else {
            return Err(DataError::UnsafeArchive { path: archive.into(), entry: path.display().to_string() });
        };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let target = folder.join(inside);
        let parent = target.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(DataError::io(parent))?;
        let mut part = target.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut output = File::create(&part).map_err(DataError::io(&part))?;
        io::copy(&mut entry, &mut output).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => DataError::Io { path: part.clone(), source: error },
            _ => damaged(error),
        })?;
        output.sync_all().map_err(DataError::io(&part))?;
        fs::rename(&part, &target).map_err(DataError::io(&target))?;
    }
    Ok(())
}

/// The path below the archive's top folder, or `None` for one that leads elsewhere.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let top = usize::from(names.len() > 1);
    Some(names[top..].iter().collect())
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, EntryType, Header};

    use super::*;

    /// An archive of files with these paths and contents, whatever the paths.
    fn archive(folder: &Path, entries: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("archive.tar.gz");
        let mut builder = Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
        for (name, contents) in entries {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, contents.as_bytes()).unwrap();
        }
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "top/link", "/etc").unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn files_come_out_without_the_top_folder_and_links_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let entries = [("top/a.bin", "first"), ("./top/deep/b.txt", "second"), ("alone.txt", "third")];
        let archive = archive(folder.path(), &entries);
        let target = folder.path().join("out");
        unpack(&archive, &target).unwrap();
        let read = |name| fs::read_to_string(target.join(name)).unwrap();
        assert_eq!(
            (read("a.bin"), read("deep/b.txt"), read("alone.txt")),
            ("first".into(), "second".into(), "third".into())
        );
        assert!(fs::symlink_metadata(target.join("link")).is_err());
        assert!(!target.join("a.bin.part").exists());
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for name in ["../evil", "top/../../evil", "/tmp/gabor-evil"] {
            let folder = tempfile::tempdir().unwrap();
            let archive = archive(folder.path(), &[(name, "evil")]);
            let error = unpack(&archive, &folder.path().join("out")).unwrap_err();
            assert!(matches!(&error, DataError::UnsafeArchive { entry, .. } if entry == name), "{error}");
            assert!(!folder.path().join("evil").exists() && !Path::new("/tmp/gabor-evil").exists());
        }
    }

    #[test]
    fn a_truncated_archive_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path(), &[("top/a", "first")]);
        let bytes = fs::read(&archive).unwrap();
        fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(unpack(&archive, folder.path()), Err(DataError::Damaged { .. })));
    }
}
