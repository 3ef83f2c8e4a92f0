//! Image folders: a folder a class, with or without folders `train`, `val` and `test` above.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use tracing::warn;
use walkdir::WalkDir;

use super::cache::{Budget, Cached};
use super::decode::probe;
use super::finding::{self, Finding};
use super::open::Opened;
use super::{
    DataError, Dataset, FitChoice, IMAGE_EXTENSIONS, ImageDecoder, ImageSize, ImageSource, Labels, OpenOptions, Sizing,
    Skipped,
};

/// How many images are looked at to find the size of all.
const PROBED: usize = 64;
/// Formats of images that are not read, by the extensions of their files.
const NOT_READ: [&str; 17] = [
    "heic", "heif", "hif", "avif", "jxl", "jp2", "psd", "svg", "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "dcm",
    "exr",
];
/// How many skipped images are named in warnings; all are in [`Opened::skipped`].
const NAMED: usize = 20;

/// Images in files, decoded each time.
struct ImageFiles {
    files: Vec<PathBuf>,
    decoder: ImageDecoder,
}

impl ImageSource for ImageFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        self.decoder.read(&self.files[index], out)
    }

    fn original(&self, index: usize) -> Result<Option<(Vec<u8>, ImageSize)>, DataError> {
        self.decoder.original(&self.files[index]).map(Some)
    }
}

/// Opens the image folder `root`, telling `progress` how many images have been decoded of how many.
pub(super) fn open(
    root: &Path,
    options: &OpenOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Opened, DataError> {
    let parts = Parts::of(root)?;
    let class_folders = folders(&parts.train)?;
    if class_folders.is_empty() {
        return Err(DataError::UnknownFormat { path: parts.train.clone(), found: describe(&parts.train)? });
    }
    let classes: Vec<String> = class_folders.iter().map(|folder| name_of(folder)).collect();
    let train = Scan::of(&class_folders, &classes)?;
    let counts = train.counts(classes.len());
    if let Some(empty) = counts.iter().position(|&count| count == 0) {
        return Err(empty_class(&class_folders[empty], &classes[empty], 0));
    }
    let nested = train.nested(&class_folders);
    if let ([_], [(folder, below)]) = (&class_folders[..], &nested[..]) {
        let below = below.iter().take(NAMED).cloned().collect();
        return Err(DataError::TooDeep { path: parts.train, folder: name_of(folder), below });
    }

    let mut reading = Reading::new(&train.files, classes, options, progress);
    let train = reading.read_scan(&parts.train, train)?;
    if let Some(empty) = train.class_counts().iter().position(|&count| count == 0) {
        return Err(empty_class(&class_folders[empty], &train.classes()[empty], counts[empty]));
    }
    let val = parts.val.map(|folder| reading.scan_and_read(&folder)).transpose()?;
    let test = parts.test.map(|folder| reading.scan_and_read(&folder)).transpose()?;
    let Reading { sizing, skipped, passed_over, .. } = reading;
    let ignored_files = passed_over.values().sum();
    let mut findings = findings_of_files(passed_over);
    if !nested.is_empty() {
        findings.push(Finding::Nested { folders: nested });
    }
    Ok(Opened { train, val, test, sizing, skipped, ignored_files, findings })
}

/// That a class has no image, `unreadable` ones left aside.
fn empty_class(folder: &Path, class: &str, unreadable: usize) -> DataError {
    let scan = Scan::of(&[folder.into()], &[class.into()]).unwrap_or_default();
    let instead = findings_of_files(scan.passed_over).into_iter().find_map(|finding| match finding {
        Finding::NotRead { kinds } => Some(finding::by_kind(&kinds, str::to_uppercase)),
        _ => None,
    });
    DataError::EmptyClass { path: folder.into(), unreadable, instead: instead.unwrap_or_default() }
}

/// What was passed over, given how many files of each extension (in lower case) that were.
fn findings_of_files(passed_over: BTreeMap<String, usize>) -> Vec<Finding> {
    let (not_read, ignored): (BTreeMap<_, _>, BTreeMap<_, _>) =
        passed_over.into_iter().partition(|(kind, _)| NOT_READ.contains(&kind.as_str()));
    let mut findings = Vec::new();
    if !not_read.is_empty() {
        findings.push(Finding::NotRead { kinds: not_read });
    }
    if !ignored.is_empty() {
        findings.push(Finding::Ignored { kinds: ignored });
    }
    findings
}

/// The folders that hold class folders.
struct Parts {
    train: PathBuf,
    val: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl Parts {
    /// `root/train` and so on, if these are all the folders that there are and hold folders themselves: a class may be
    /// called "train" too.
    fn of(root: &Path) -> Result<Self, DataError> {
        let (mut train, mut val, mut test) = (None, None, None);
        for folder in folders(root)? {
            let part = match name_of(&folder).to_lowercase().as_str() {
                "train" | "training" => &mut train,
                "val" | "valid" | "validation" => &mut val,
                "test" | "testing" => &mut test,
                _ => return Ok(Self { train: root.into(), val: None, test: None }),
            };
            *part = Some(folder);
        }
        match train {
            Some(train) if !folders(&train)?.is_empty() => Ok(Self { train, val, test }),
            _ => Ok(Self { train: root.into(), val: None, test: None }),
        }
    }
}

/// The image files below class folders.
#[derive(Default)]
struct Scan {
    files: Vec<PathBuf>,
    labels: Vec<u32>,
    /// How many files were passed over because of their extensions, in lower case.
    passed_over: BTreeMap<String, usize>,
}

impl Scan {
    /// The images at any depth below `class_folders`, each with the index of its folder's name in `classes`, in the
    /// order of their names.
    fn of(class_folders: &[PathBuf], classes: &[String]) -> Result<Self, DataError> {
        let mut scan = Self::default();
        for folder in class_folders {
            let name = name_of(folder);
            let label = classes
                .iter()
                .position(|class| *class == name)
                .ok_or_else(|| DataError::UnknownClass { path: folder.clone(), known: classes.join(", ") })?;
            let visible = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
            for entry in visible.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path())) {
                let path = match entry {
                    Ok(entry) if entry.file_type().is_dir() => continue,
                    Ok(entry) => entry.into_path(),
                    // A link to nowhere is an image that cannot be read, counted and named as such when it is decoded.
                    Err(error) => match error.path() {
                        // What a link to a folder around it leads to is found there.
                        _ if error.loop_ancestor().is_some() => continue,
                        Some(path) if has_image_name(path) => path.into(),
                        path => {
                            let path = path.unwrap_or(folder).to_path_buf();
                            return Err(DataError::Io { path, source: error.into() });
                        }
                    },
                };
                if has_image_name(&path) {
                    scan.files.push(path);
                    scan.labels.push(label as u32);
                } else {
                    *scan.passed_over.entry(extension_of(&path)).or_default() += 1;
                }
            }
        }
        Ok(scan)
    }

    /// Those of `class_folders` whose images all lie in several folders of theirs, with the names of these.
    fn nested(&self, class_folders: &[PathBuf]) -> Vec<(PathBuf, Vec<String>)> {
        let mut below: Vec<Option<Vec<&OsStr>>> = vec![Some(Vec::new()); class_folders.len()];
        for (file, &label) in self.files.iter().zip(&self.labels) {
            let (folder, below) = (&class_folders[label as usize], &mut below[label as usize]);
            let mut steps = file.strip_prefix(folder).unwrap_or(file).iter();
            match (below.as_mut(), steps.next(), steps.next()) {
                (Some(names), Some(first), Some(_)) if names.last() != Some(&first) => names.push(first),
                (Some(_), Some(_), None) => *below = None,
                _ => {}
            }
        }
        let named = |(folder, names): (&PathBuf, Option<Vec<&OsStr>>)| {
            let names = names.filter(|names| names.len() > 1)?;
            Some((folder.clone(), names.iter().map(|name| name.to_string_lossy().into_owned()).collect()))
        };
        class_folders.iter().zip(below).filter_map(named).collect()
    }

    fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }
}

/// Decodes the images in `files`, which have these labels and are of these groups, telling `progress` how many are done, and leaves out those that
/// cannot be read.
pub(super) fn read_images(
    name: &str,
    files: Vec<PathBuf>,
    labels: Labels,
    groups: Option<Vec<u32>>,
    classes: Vec<String>,
    options: &OpenOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Opened, DataError> {
    let mut reading = Reading::new(&files, classes, options, progress);
    let train = reading.read(name, files, labels, groups)?;
    Ok(Opened { skipped: reading.skipped, ..Opened::of(train, reading.sizing) })
}

/// What is common to the parts of one opening, and adds up over them.
struct Reading<'a> {
    classes: Vec<String>,
    sizing: Sizing,
    decoder: ImageDecoder,
    options: &'a OpenOptions,
    progress: &'a (dyn Fn(usize, usize) + Sync),
    /// What is left of the budget.
    cache_bytes: usize,
    skipped: Vec<Skipped>,
    /// As in [`Scan`].
    passed_over: BTreeMap<String, usize>,
}

impl<'a> Reading<'a> {
    /// Reading images of the size that the options say or `files` have.
    fn new(
        files: &[PathBuf],
        classes: Vec<String>,
        options: &'a OpenOptions,
        progress: &'a (dyn Fn(usize, usize) + Sync),
    ) -> Self {
        let sizing = sizing(files, options);
        let decoder = ImageDecoder { size: sizing.size, fit: sizing.fit, limits: options.limits };
        let cache_bytes = options.cache_bytes;
        let (skipped, passed_over) = (Vec::new(), BTreeMap::new());
        Self { classes, sizing, decoder, options, progress, cache_bytes, skipped, passed_over }
    }

    fn scan_and_read(&mut self, folder: &Path) -> Result<Dataset, DataError> {
        let scan = Scan::of(&folders(folder)?, &self.classes)?;
        if scan.files.is_empty() {
            return Err(DataError::UnknownFormat { path: folder.into(), found: describe(folder)? });
        }
        self.read_scan(folder, scan)
    }

    fn read_scan(&mut self, folder: &Path, scan: Scan) -> Result<Dataset, DataError> {
        for (kind, count) in scan.passed_over {
            *self.passed_over.entry(kind).or_default() += count;
        }
        self.read(&folder.display().to_string(), scan.files, Labels::Classes(scan.labels), None)
    }

    /// Decodes the images and leaves out those that cannot be read.
    fn read(
        &mut self,
        name: &str,
        files: Vec<PathBuf>,
        labels: Labels,
        groups: Option<Vec<u32>>,
    ) -> Result<Dataset, DataError> {
        let total = files.len();
        let files = ImageFiles { files, decoder: self.decoder };
        let image_bytes = self.decoder.size.bytes();
        let done = AtomicUsize::new(0);
        let on_read = || (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        // Without a name: the system removes it when the process ends, however that comes about.
        let file = |folder: &PathBuf| {
            fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).map_err(DataError::io(folder))
        };
        let disk = self.options.disk_cache.as_ref().map(file).transpose()?;
        let budget = Budget { memory: self.cache_bytes, disk };
        let (cached, failures) = Cached::fill(files, image_bytes, budget, self.options.verify, &on_read);
        self.cache_bytes -= cached.bytes();
        let size = self.decoder.size;
        let set = Dataset::new(name, Arc::new(cached), size, labels, self.classes.clone())?.with_fit(self.sizing.fit);
        let set = match groups {
            Some(groups) => set.with_groups(groups),
            None => set,
        };
        if failures.is_empty() {
            return Ok(set);
        }

        let mut usable = vec![true; total];
        let mut skipped = Vec::with_capacity(failures.len());
        for (index, error) in failures {
            usable[index] = false;
            skipped.push(match error {
                DataError::Image { path, reason } => Skipped { path, reason },
                other => Skipped { path: set.image_name(index).into(), reason: other.to_string() },
            });
        }
        if self.options.strict {
            let Skipped { path, reason } = skipped.swap_remove(0);
            return Err(DataError::UnreadableImages { count: skipped.len() + 1, total, path, reason });
        }
        for Skipped { path, reason } in skipped.iter().take(NAMED) {
            warn!("skipped {}: {reason}", path.display());
        }
        warn!("{name}: skipped {} of {total} images, which cannot be read", skipped.len());
        self.skipped.extend(skipped);
        let usable: Vec<usize> = (0..total).filter(|&index| usable[index]).collect();
        Ok(set.subset(&usable))
    }
}

/// What to bring images in `files` to, by a sample of them where the options leave it open.
fn sizing(files: &[PathBuf], options: &OpenOptions) -> Sizing {
    let given = options.height_width.is_some() && options.channels.is_some() && options.fit != FitChoice::Auto;
    let sample = if given { 0 } else { files.len().min(PROBED) };
    let probed: Vec<ImageSize> = (0..sample)
        .into_par_iter()
        .filter_map(|number| probe(&files[number * files.len() / sample], options.limits).ok())
        .collect();
    Sizing::of(&probed, options)
}

/// The visible folders in `folder`, by name.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        if path.is_dir() && !is_hidden(&path) {
            folders.push(path);
        }
    }
    folders.sort_by_key(|folder| name_of(folder));
    Ok(folders)
}

/// What is in a folder that has no class folders with images.
fn describe(folder: &Path) -> Result<String, DataError> {
    let (mut images, mut others) = (0, 0);
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        *(if has_image_name(&path) { &mut images } else { &mut others }) += 1;
    }
    Ok(match (images, others) {
        (0, 0) => "it is empty".into(),
        (0, _) => format!("{others} files or folders, none of them with images"),
        _ => format!("{images} images, not in class folders"),
    })
}

/// The image files in a folder at any depth, in the order of their names; what is hidden is left out.
///
/// What cannot be looked into, such as a link to nowhere or a folder without permission, is among them, to be told with the images
/// that cannot be read.
///
/// # Errors
/// If the folder itself cannot be read.
pub fn images_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut images = Vec::new();
    let visible = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    for entry in visible.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path())) {
        let entry = match entry {
            Ok(entry) => entry,
            // What a link to a folder around it leads to is found there.
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => match error.path() {
                Some(path) if error.depth() > 0 => {
                    images.push(path.into());
                    continue;
                }
                path => {
                    let path = path.unwrap_or(folder).to_path_buf();
                    return Err(DataError::Io { path, source: error.into() });
                }
            },
        };
        if !entry.file_type().is_dir() && has_image_name(entry.path()) {
            images.push(entry.into_path());
        }
    }
    Ok(images)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_hidden(path: &Path) -> bool {
    let name = name_of(path);
    name.starts_with('.') || name == "__MACOSX"
}

pub(super) fn has_image_name(path: &Path) -> bool {
    IMAGE_EXTENSIONS.contains(&extension_of(path).as_str())
}

fn extension_of(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}
