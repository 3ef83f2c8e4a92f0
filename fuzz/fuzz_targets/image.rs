//! An image file of any format.
#![no_main]

use gabor::data::{DecodeLimits, Fit, ImageDecoder, ImageSize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    let limits = DecodeLimits { max_side: 4096, max_bytes: 64 << 20 };
    let size = ImageSize::new(16, 16, 3);
    let _ = ImageDecoder { size, fit: Fit::Crop, limits }.read(file.path(), &mut vec![0; size.bytes()]);
});
