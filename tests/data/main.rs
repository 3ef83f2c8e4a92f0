//! The data room from the outside: image folders, loading and downloading.

mod download;
mod folder;
mod loader;
mod mutations;
