//! A file of labels, beside an image that it may name: `a.png`.
#![no_main]

use gabor::data::{self, OpenOptions};
use libfuzzer_sys::fuzz_target;

/// A grey image of one pixel.
const IMAGE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU\0\0\0\n\
    IDATx\x9cc`\0\0\0\x02\0\x01H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82";

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.png"), IMAGE).expect("a file");
    let labels = folder.path().join("labels.csv");
    std::fs::write(&labels, bytes).expect("a file");
    let _ = data::open(folder.path(), &OpenOptions { labels: Some(labels), ..OpenOptions::default() });
});
