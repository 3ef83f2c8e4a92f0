//! Whole public data sets and pretrained weights from their homes.

mod fetch;
mod unpack;
mod weights;

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

pub use fetch::{Checksum, RemoteFile, fetch};
pub use unpack::unpack;
pub use weights::{PublicWeights, download_weights};

use super::DataError;

/// A public data set that can be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicSet {
    /// Handwritten digits, 60,000 and 10,000 grey images of 28x28 (LeCun, Cortes, Burges).
    Mnist,
    /// Clothes, in the format and numbers of MNIST (Xiao, Rasul, Vollgraf).
    FashionMnist,
    /// 50,000 and 10,000 colour images of 32x32 in 10 classes (Krizhevsky).
    Cifar10,
    /// The same numbers in 100 classes.
    Cifar100,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being downloaded.
    pub file: &'a str,
    /// Bytes of it that are here, those of an earlier try included.
    pub received: u64,
    /// Its length, if the server says.
    pub total: Option<u64>,
}

/// Where a set is and what its files are.
struct Home {
    /// Base URLs, the first one preferred.
    mirrors: &'static [&'static str],
    files: &'static [RemoteFile],
    /// The files that unpacking the only file gives.
    unpacked: &'static [&'static str],
    /// The names of the classes, where the files don't have them.
    classes: &'static [&'static str],
}

const fn md5(name: &'static str, digest: &'static str) -> RemoteFile {
    RemoteFile { name, checksum: Checksum::Md5(digest) }
}

const MNIST: Home = Home {
    mirrors: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ],
    files: &[
        md5("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        md5("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        md5("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        md5("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ],
    unpacked: &[],
    classes: &[],
};

const FASHION_MNIST: Home = Home {
    mirrors: &[
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ],
    files: &[
        md5("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        md5("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        md5("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        md5("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ],
    unpacked: &[],
    classes: &[
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
};

const CIFAR10: Home = Home {
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    files: &[md5("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")],
    unpacked: &[
        "batches.meta.txt",
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ],
    classes: &[],
};

const CIFAR100: Home = Home {
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    files: &[md5("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")],
    unpacked: &["fine_label_names.txt", "train.bin", "test.bin"],
    classes: &[],
};

impl PublicSet {
    /// All sets.
    pub const ALL: [Self; 4] = [Self::Mnist, Self::FashionMnist, Self::Cifar10, Self::Cifar100];

    /// The name of the set on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    fn home(self) -> &'static Home {
        match self {
            Self::Mnist => &MNIST,
            Self::FashionMnist => &FASHION_MNIST,
            Self::Cifar10 => &CIFAR10,
            Self::Cifar100 => &CIFAR100,
        }
    }
}

impl fmt::Display for PublicSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PublicSet {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|set| set.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            DataError::Option(format!("{name:?} is no data set that can be downloaded: there are {known}"))
        })
    }
}

/// Downloads `set` into `folder`, which is made if need be and can then be given to [`open`](super::open).
///
/// The files come from the set's public homes, one after the other until one gives them, or from `base_url` (the URL of
/// a file less its name). Each is checked against its published MD5. What is there already is not downloaded again, and
/// a download that was cut off goes on where it stopped. Archives are unpacked and removed.
///
/// # Errors
/// [`DataError::Download`] if no home gives a file with the right checksum, or if the folder cannot be written.
pub fn download(
    set: PublicSet,
    folder: &Path,
    base_url: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let home = set.home();
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    let is_unpacked = !home.unpacked.is_empty() && home.unpacked.iter().all(|name| folder.join(name).is_file());
    if is_unpacked {
        return Ok(());
    }
    let mirrors = base_url.as_ref().map_or(home.mirrors, std::slice::from_ref);
    for file in home.files {
        let path = fetch(file, mirrors, folder, progress)?;
        if !home.unpacked.is_empty() {
            unpack(&path, folder)?;
            fs::remove_file(&path).map_err(DataError::io(&path))?;
        }
    }
    if !home.classes.is_empty() {
        let path = folder.join("classes.txt");
        fs::write(&path, home.classes.join("\n") + "\n").map_err(DataError::io(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_unknown_ones_answered_with_the_list() {
        for set in PublicSet::ALL {
            assert_eq!(set.to_string().parse::<PublicSet>().unwrap(), set);
        }
        let error = "imagenet".parse::<PublicSet>().unwrap_err().to_string();
        assert!(error.contains("mnist, fashion-mnist, cifar10, cifar100"), "{error}");
    }

    #[test]
    fn the_lists_are_well_formed() {
        for set in PublicSet::ALL {
            let home = set.home();
            assert!(home.mirrors.iter().all(|url| url.starts_with("http") && url.ends_with('/')));
            for file in home.files {
                let Checksum::Md5(digest) = file.checksum else { panic!("{} has an MD5", file.name) };
                assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
        }
    }

    #[test]
    fn what_is_unpacked_already_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in CIFAR100.unpacked {
            fs::write(folder.path().join(name), "here").unwrap();
        }
        download(PublicSet::Cifar100, folder.path(), Some("http://127.0.0.1:9/"), &mut |_| {}).unwrap();
    }
}
