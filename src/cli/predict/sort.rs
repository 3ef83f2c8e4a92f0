//! Images in a folder for each class that they were taken for.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A folder that images are sorted into.
pub struct Sorter {
    folder: PathBuf,
    links: bool,
    /// Images that each folder in it was given.
    counts: BTreeMap<String, usize>,
}

impl Sorter {
    /// Into folders in `folder`: copies, or with `links` symbolic links.
    pub fn new(folder: PathBuf, links: bool) -> Self {
        Self { folder, links, counts: BTreeMap::new() }
    }

    /// Puts an image into the folder of a class. What is there already stays: an image of the same name gets a number, unless it is
    /// the same.
    pub fn put(&mut self, image: &Path, class: &str) -> Result<()> {
        let name = folder_name(class);
        let folder = self.folder.join(&name);
        *self.counts.entry(name).or_default() += 1;
        let cannot = || format!("cannot put {} into {}", image.display(), folder.display());
        fs::create_dir_all(&folder).with_context(cannot)?;
        let source = image.canonicalize().with_context(cannot)?;
        for number in 1.. {
            let place = folder.join(numbered(image, number));
            match fs::symlink_metadata(&place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return match self.links {
                        true => link(&source, &place),
                        false => copy(&source, &place),
                    }
                    .with_context(cannot);
                }
                Err(error) => return Err(error).with_context(cannot),
                Ok(_) if is_same(&source, &place) => return Ok(()),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Sorter {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let counts: Vec<String> = self.counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        write!(f, "sorted into {}: {}", self.folder.display(), counts.join(", "))
    }
}

/// The name of a class as that of a folder in the folder, whatever is in it.
fn folder_name(class: &str) -> String {
    let fits = |c: char| !c.is_control() && !r#"/\:*?"<>|"#.contains(c);
    let name: String = class.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.chars().all(|c| c == '.') { "_".repeat(name.len().max(1)) } else { name }
}

/// The name of a file, with a number from the second on: `a.jpg`, `a-2.jpg`.
fn numbered(file: &Path, number: u32) -> PathBuf {
    let name = Path::new(file.file_name().unwrap_or_default());
    if number == 1 {
        return name.into();
    }
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    let ending = name.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    format!("{stem}-{number}{ending}").into()
}

fn is_same(a: &Path, b: &Path) -> bool {
    let size = |path: &Path| fs::metadata(path).map(|file| file.len()).ok();
    size(a).is_some() && size(a) == size(b) && fs::read(a).ok() == fs::read(b).ok()
}

/// Copies a file so that at its place there is either nothing or the whole of it.
fn copy(source: &Path, place: &Path) -> io::Result<()> {
    let mut part = place.as_os_str().to_os_string();
    part.push(".part");
    fs::copy(source, &part)?;
    fs::rename(&part, place)
}

#[cfg(unix)]
fn link(source: &Path, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(source, place)
}

#[cfg(windows)]
fn link(source: &Path, place: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(source, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_stay_inside() {
        for (class, name) in
            [("cat", "cat"), ("a/b", "a_b"), ("..", "__"), ("../../etc", ".._.._etc"), ("", "_"), ("é b", "é b")]
        {
            assert_eq!(folder_name(class), name);
        }
    }

    #[test]
    fn nothing_is_replaced_and_nothing_put_twice() {
        let place = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(place.path().join("sorted"), false);
        for (folder, content) in [("a", "one"), ("b", "two"), ("a", "one")] {
            fs::create_dir_all(place.path().join(folder)).unwrap();
            let image = place.path().join(folder).join("x.jpg");
            fs::write(&image, content).unwrap();
            sorter.put(&image, "cat").unwrap();
        }
        let read = |name: &str| fs::read_to_string(place.path().join("sorted/cat").join(name)).unwrap();
        assert_eq!((read("x.jpg"), read("x-2.jpg")), ("one".into(), "two".into()));
        assert_eq!(fs::read_dir(place.path().join("sorted/cat")).unwrap().count(), 2);
        assert!(sorter.put(&place.path().join("none.jpg"), "cat").is_err());
    }
}
