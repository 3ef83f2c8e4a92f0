use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use gabor::data::DataError;
use gabor::data::download::{
    Checksum, Progress, PublicSet, PublicWeights, RemoteFile, download, download_weights, fetch,
};
use sha2::{Digest, Sha256};

/// How the server treats a file.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Ranges are honoured.
    Good,
    /// Ranges are ignored, as simple servers do.
    WholeOnly,
    /// The connection ends after this many bytes of each answer.
    Cut(usize),
    /// Each range is answered 416.
    NoRange,
}

/// The path and the start of the range of each request.
type Log = Mutex<Vec<(String, Option<usize>)>>;

/// A web server on a port of its own, which remembers what it was asked for.
struct Server {
    base_url: String,
    requests: Arc<Log>,
}

impl Server {
    fn start(files: &[(&str, &[u8], Manner)]) -> Self {
        let files: HashMap<String, (Vec<u8>, Manner)> =
            files.iter().map(|(name, bytes, manner)| (format!("/{name}"), (bytes.to_vec(), *manner))).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Log::default());
        let log = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &files, &log);
            }
        });
        Self { base_url, requests }
    }

    fn requests(&self) -> Vec<(String, Option<usize>)> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, files: &HashMap<String, (Vec<u8>, Manner)>, log: &Log) {
    let lines: Vec<String> =
        BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let path = lines[0].split(' ').nth(1).unwrap().to_string();
    let range = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("range").then(|| value["bytes=".len()..value.len() - 1].parse::<usize>().unwrap())
    });
    log.lock().unwrap().push((path.clone(), range));
    let Some((bytes, manner)) = files.get(&path) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let start = range.filter(|_| *manner != Manner::WholeOnly);
    let (status, body) = match start {
        Some(start) if *manner == Manner::NoRange || start >= bytes.len() => {
            ("416 Range Not Satisfiable".to_string(), &[][..])
        }
        Some(start) => {
            let range = format!("{start}-{}/{}", bytes.len() - 1, bytes.len());
            (format!("206 Partial Content\r\nContent-Range: bytes {range}"), &bytes[start..])
        }
        None => ("200 OK".to_string(), &bytes[..]),
    };
    let sent = if let Manner::Cut(at) = manner { &body[..body.len().min(*at)] } else { body };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
}

const NAME: &str = "file.bin";

/// 200 kB that no two parts of are alike, and the file with its checksum.
fn contents() -> (Vec<u8>, RemoteFile) {
    let bytes: Vec<u8> = (0..50_000u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes, RemoteFile { name: NAME, checksum: Checksum::Sha256(digest.leak()) })
}

#[test]
fn a_file_comes_whole_with_its_progress_and_only_once() {
    let (bytes, file) = contents();
    let server = Server::start(&[(NAME, &bytes, Manner::Good)]);
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let mut progress = |progress: Progress| {
        assert_eq!((progress.file, progress.total), (NAME, Some(200_000)));
        seen.push(progress.received);
    };
    let path = fetch(&file, &[&server.base_url], folder.path(), &mut progress).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!((seen.first(), seen.last()), (Some(&0), Some(&200_000)));
    assert!(seen.is_sorted());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the part file is gone");

    fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
    assert_eq!(server.requests(), [("/file.bin".into(), None)]);
}

#[test]
fn md5_is_checked_too() {
    let server = Server::start(&[(NAME, b"hello", Manner::Good)]);
    let folder = tempfile::tempdir().unwrap();
    let file = RemoteFile { name: NAME, checksum: Checksum::Md5("5d41402abc4b2a76b9719d911017c592") };
    fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
}

#[test]
fn weights_are_checked_by_the_digits_in_their_name() {
    let (bytes, file) = contents();
    let Checksum::Sha256(digest) = file.checksum else { panic!("{file:?}") };
    let server =
        Server::start(&[(NAME, &bytes, Manner::Cut(60_000)), ("resnet18-f37072fd.pth", b"other", Manner::Good)]);
    let folder = tempfile::tempdir().unwrap();
    let file = RemoteFile { checksum: Checksum::Sha256Prefix(&digest[..8]), ..file };
    let path = fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);

    let weights = PublicWeights::of("resnet18").unwrap();
    let made = folder.path().join("made/on/the/way");
    let error = download_weights(weights, &made, Some(&server.base_url), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("resnet18-f37072fd.pth") && error.contains("f37072fd was expected"), "{error}");
    assert_eq!(fs::read_dir(made).unwrap().count(), 0);
}

#[test]
fn an_earlier_download_goes_on_where_it_stopped() {
    let (bytes, file) = contents();
    for (manner, requests) in [
        (Manner::Good, vec![Some(70_000)]),
        (Manner::WholeOnly, vec![Some(70_000)]),
        (Manner::NoRange, vec![Some(70_000), None]),
    ] {
        let server = Server::start(&[(NAME, &bytes, manner)]);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file.bin.part"), &bytes[..70_000]).unwrap();
        let path = fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
        assert_eq!(fs::read(path).unwrap(), bytes);
        assert_eq!(server.requests().into_iter().map(|(_, range)| range).collect::<Vec<_>>(), requests);
    }
}

#[test]
fn a_complete_part_needs_no_server_and_a_wrong_one_is_thrown_away() {
    let (bytes, file) = contents();
    let server = Server::start(&[(NAME, &bytes, Manner::Good)]);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("file.bin.part");
    fs::write(&part, &bytes).unwrap();
    fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
    assert!(server.requests().is_empty());

    fs::remove_file(folder.path().join(NAME)).unwrap();
    fs::write(&part, vec![0; 1000]).unwrap();
    let path = fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert_eq!(server.requests().into_iter().map(|(_, range)| range).collect::<Vec<_>>(), [Some(1000), None]);
}

#[test]
fn a_cut_connection_is_taken_up_again() {
    let (bytes, file) = contents();
    let server = Server::start(&[(NAME, &bytes, Manner::Cut(60_000))]);
    let folder = tempfile::tempdir().unwrap();
    let path = fetch(&file, &[&server.base_url], folder.path(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert!(server.requests().len() >= 4, "{:?}", server.requests());
}

#[test]
fn the_next_mirror_is_asked_when_one_fails() {
    let (bytes, file) = contents();
    let wrong = Server::start(&[(NAME, b"<html>sign in to the hotel's network</html>", Manner::Good)]);
    let empty = Server::start(&[]);
    let good = Server::start(&[(NAME, &bytes, Manner::Good)]);
    let folder = tempfile::tempdir().unwrap();
    let closed = "http://127.0.0.1:1/";
    let mirrors = [closed, &wrong.base_url, &empty.base_url, good.base_url.trim_end_matches('/')];
    let path = fetch(&file, &mirrors, folder.path(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn when_all_fail_the_error_says_why_of_each_and_leaves_no_wrong_file() {
    let (_, file) = contents();
    let wrong = Server::start(&[(NAME, b"something else", Manner::Good)]);
    let empty = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&file, &[&wrong.base_url, &empty.base_url], folder.path(), &mut |_| {}).unwrap_err();
    let message = error.to_string();
    let DataError::Download { attempts, .. } = error else { panic!("{message}") };
    assert!(attempts[0].contains("checksum") && attempts[1].contains("404"), "{message}");
    assert!(message.contains(&wrong.base_url) && message.contains("base URL"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_set_comes_from_the_given_base_url() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/on/the/way");
    for set in PublicSet::ALL {
        let error = download(set, &folder, Some(&server.base_url), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(&server.base_url), "{error}");
    }
    let asked: Vec<String> = server.requests().into_iter().map(|(path, _)| path).collect();
    let images = "/train-images-idx3-ubyte.gz";
    assert_eq!(asked, [images, images, "/cifar-10-binary.tar.gz", "/cifar-100-binary.tar.gz"]);
}
