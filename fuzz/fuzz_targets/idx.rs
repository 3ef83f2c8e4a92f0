//! A folder of IDX files: the first byte says where the images end and the labels begin.
#![no_main]

use gabor::data::{self, OpenOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, rest)) = bytes.split_first() else { return };
    let (images, labels) = rest.split_at(rest.len() * usize::from(cut) / 256);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in [("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)] {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    let _ = data::open(folder.path(), &OpenOptions::default());
});
