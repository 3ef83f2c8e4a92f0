//! The log of a run that is resumed.
#![no_main]

use gabor::{report::StepLog, train::Progress};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("steps.csv");
    std::fs::write(&path, bytes).expect("a file");
    StepLog::resume(&path, &Progress { step: 2, batches: 1, ..Progress::default() }).map(drop).expect("a log");
});
