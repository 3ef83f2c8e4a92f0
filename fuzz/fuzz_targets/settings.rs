//! The settings of a run's config.toml and its choice of kernels.
#![no_main]

use gabor::{data::OpenOptions, plan::Choices, train::Recipe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<Choices>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = toml::from_str::<OpenOptions>(text);
    if let Ok(recipe) = toml::from_str::<Recipe>(text)
        && recipe.check().is_ok()
    {
        recipe.total_steps(usize::MAX);
    }
});
