//! Files that a command is asked to write.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use gabor::train::{check_writable, write_whole};

/// A file that is written when the work is done of which it is the result.
pub struct Output(PathBuf);

/// Bytes at the beginning of a file within which its mark is.
const HEAD: u64 = 1024;

impl Output {
    /// Tells now what would go wrong then. What is there already is replaced only where it is empty or has the mark of what the
    /// command writes in its first bytes: it is not one of the images or the weights that the command reads.
    pub fn new(path: &Path, mark: &str) -> Result<Self> {
        ensure!(path != Path::new("-"), "a file cannot be called -: give /dev/stdout to have it among what is printed");
        check_writable(path).with_context(|| format!("cannot write {}: give another place", path.display()))?;
        if path.is_file() {
            let mut head = Vec::new();
            let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
            read.with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                head.is_empty() || String::from_utf8_lossy(&head).contains(mark),
                "{} is there already, and no file of this kind: give another name, or remove it",
                path.display()
            );
        }
        Ok(Self(path.into()))
    }

    /// As [`Self::new`], of several that are not the same.
    pub fn several<const N: usize>(given: [(Option<&PathBuf>, &str); N]) -> Result<[Option<Self>; N]> {
        let mut outputs = [const { None }; N];
        for (at, (path, mark)) in given.into_iter().enumerate() {
            let Some(path) = path else { continue };
            let is_twice = outputs.iter().flatten().any(|Self(other): &Self| other == path);
            ensure!(!is_twice, "{} is given for two files: give another name for one of them", path.display());
            outputs[at] = Some(Self::new(path, mark)?);
        }
        Ok(outputs)
    }

    /// Writes it whole.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        Ok(write_whole(&self.0, bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_files_of_its_own_kind_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text, is_replaced) in
            [("own", "image,class\na.png,cat\n", true), ("empty", "", true), ("photo.jpg", "\u{1}JPEG", false)]
        {
            fs::write(path(name), text).unwrap();
            assert_eq!(Output::new(&path(name), "image,class").is_ok(), is_replaced, "{name}");
            assert_eq!(fs::read_to_string(path(name)).unwrap(), text);
        }
        let new = Output::new(&path("new"), "image,class").unwrap();
        assert!(!path("new").exists());
        new.write(b"image,class\n").unwrap();
        assert_eq!(fs::read_to_string(path("new")).unwrap(), "image,class\n");
        for wrong in [path("none/x"), folder.path().into(), "-".into()] {
            assert!(Output::new(&wrong, "").is_err(), "{}", wrong.display());
        }
        assert!(Output::several([(Some(&path("a")), ""), (None, ""), (Some(&path("a")), "")]).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left there");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_lead_to_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("target"), "").unwrap();
        std::os::unix::fs::symlink(path("target"), path("link")).unwrap();
        Output::new(&path("link"), "").unwrap().write(b"text").unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(fs::read_to_string(path("target")).unwrap(), "text");
        Output::new(Path::new("/dev/null"), "").unwrap().write(b"text").unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
