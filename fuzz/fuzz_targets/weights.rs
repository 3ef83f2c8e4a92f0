//! A weights file.
#![no_main]

use gabor::{cpu::CpuExecutor, train::Classifier};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    let _ = Classifier::load(file.path(), Box::new(CpuExecutor::new()), 1);
});
