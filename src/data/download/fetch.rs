//! One file over HTTP: mirrors, resuming, checksums.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::Md5;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::Progress;
use crate::data::DataError;

/// How often a cut connection to one mirror is taken up again; each time some bytes must have come.
const MAX_TRIES: usize = 50;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A file to download and how to know that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name, in the URL and in the folder.
    pub name: &'static str,
    /// What its contents hash to.
    pub checksum: Checksum,
}

/// A digest in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// MD5, which older data sets publish. It shows accidents, not attacks.
    Md5(&'static str),
    /// SHA-256.
    Sha256(&'static str),
    /// The first digits of the SHA-256, which names of PyTorch's files hold.
    Sha256Prefix(&'static str),
}

impl Checksum {
    fn expected(self) -> &'static str {
        match self {
            Self::Md5(digest) | Self::Sha256(digest) | Self::Sha256Prefix(digest) => digest,
        }
    }

    fn of(self, path: &Path) -> io::Result<String> {
        match self {
            Self::Md5(_) => digest::<Md5>(path),
            Self::Sha256(_) => digest::<Sha256>(path),
            Self::Sha256Prefix(prefix) => digest::<Sha256>(path).map(|digest| digest[..prefix.len()].to_string()),
        }
    }
}

fn digest<D: Digest + Write>(path: &Path) -> io::Result<String> {
    let mut hasher = D::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Why a mirror did not give the file.
enum Failure {
    /// Another mirror may.
    Mirror(String),
    /// No mirror can help: the folder cannot be written.
    Local(DataError),
}

/// Downloads `file` into `folder` from the first of `mirrors` (base URLs) that gives it with the right checksum, and
/// returns its path.
///
/// The bytes gather in a `.part` file, which a later call goes on with (HTTP Range), and which gets its name once the
/// checksum is right. A file that is there and right is not downloaded again.
///
/// # Errors
/// [`DataError::Download`] with a line for each mirror, or [`DataError::Io`] if the folder cannot be written.
pub fn fetch(
    file: &RemoteFile,
    mirrors: &[&str],
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, DataError> {
    let path = folder.join(file.name);
    if path.is_file() && is_whole(file, &path)? {
        return Ok(path);
    }
    let part = folder.join(format!("{}.part", file.name));
    let mut attempts = Vec::new();
    for mirror in mirrors {
        let url = format!("{}/{}", mirror.trim_end_matches('/'), file.name);
        info!("downloading {url}");
        match from_mirror(file, &url, &part, progress) {
            Ok(()) => {
                fs::rename(&part, &path).map_err(DataError::io(&path))?;
                return Ok(path);
            }
            Err(Failure::Mirror(reason)) => {
                warn!("{url}: {reason}");
                attempts.push(format!("{url}: {reason}"));
            }
            Err(Failure::Local(error)) => return Err(error),
        }
    }
    Err(DataError::Download { file: file.name.into(), folder: folder.into(), attempts })
}

fn is_whole(file: &RemoteFile, path: &Path) -> Result<bool, DataError> {
    Ok(file.checksum.of(path).map_err(DataError::io(path))? == file.checksum.expected())
}

/// Completes `part` from `url`.
fn from_mirror(file: &RemoteFile, url: &str, part: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
    let mut last_reason = String::new();
    for _ in 0..MAX_TRIES {
        let had = length(part);
        if had > 0 && is_whole(file, part).map_err(Failure::Local)? {
            return Ok(());
        }
        match transfer(file, url, part, had, progress) {
            Ok(()) if is_whole(file, part).map_err(Failure::Local)? => return Ok(()),
            Ok(()) => {
                let found = file.checksum.of(part).map_err(|error| local(part, error))?;
                fs::remove_file(part).map_err(|error| local(part, error))?;
                last_reason = format!("the checksum is {found} where {} was expected", file.checksum.expected());
                // What an earlier try left may be to blame: once more from the start.
                if had == 0 {
                    break;
                }
            }
            Err(Failure::Mirror(reason)) => {
                last_reason = reason;
                if length(part) <= had {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Failure::Mirror(last_reason))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn local(path: &Path, source: io::Error) -> Failure {
    Failure::Local(DataError::Io { path: path.into(), source })
}

/// One request: appends to the `had` bytes of `part` if the server takes up there, else starts anew.
fn transfer(
    file: &RemoteFile,
    url: &str,
    part: &Path,
    had: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .accept_encoding("identity")
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .build()
        .new_agent();
    let request = agent.get(url);
    let request = if had > 0 { request.header("Range", format!("bytes={had}-")) } else { request };
    let mut response = request.call().map_err(|error| Failure::Mirror(error.to_string()))?;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let start = match response.status().as_u16() {
        200 => 0,
        206 if header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {had}-"))) => had,
        // The server cannot go on from there (416), or answers another range than the one asked for.
        206 | 416 if had > 0 => return transfer(file, url, part, 0, progress),
        status => return Err(Failure::Mirror(format!("the server answered {status}"))),
    };
    let total = header("content-length").and_then(|length| length.parse::<u64>().ok()).map(|length| start + length);

    let opened = if start > 0 { File::options().append(true).open(part) } else { File::create(part) };
    let mut output = opened.map_err(|error| local(part, error))?;
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 64 << 10];
    let mut received = start;
    loop {
        progress(Progress { file: file.name, received, total });
        let count = body.read(&mut buffer).map_err(|error| Failure::Mirror(error.to_string()))?;
        if count == 0 {
            break;
        }
        output.write_all(&buffer[..count]).map_err(|error| local(part, error))?;
        received += count as u64;
    }
    output.sync_all().map_err(|error| local(part, error))?;
    match total {
        Some(total) if received < total => Err(Failure::Mirror(format!("it ended after {received} of {total} bytes"))),
        _ => Ok(()),
    }
}
