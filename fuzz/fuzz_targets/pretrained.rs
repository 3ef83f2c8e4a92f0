//! A file of pretrained weights.
#![no_main]

use gabor::weights::WeightsFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(path.path(), bytes).expect("a file");
    let Ok(file) = WeightsFile::open(path.path()) else { return };
    for (name, _) in file.tensors() {
        let _ = file.read(name);
    }
});
