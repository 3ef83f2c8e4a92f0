//! A folder of CIFAR-100 files, whose names of classes come first, up to a byte of 0.
#![no_main]

use gabor::data::{self, OpenOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (names, records) = bytes.split_at(cut);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("train.bin"), records).expect("a file");
    if !names.is_empty() {
        std::fs::write(folder.path().join("fine_label_names.txt"), names).expect("a file");
    }
    let _ = data::open(folder.path(), &OpenOptions::default());
});
