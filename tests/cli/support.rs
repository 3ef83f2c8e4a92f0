use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use image::{GrayImage, Luma};
use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own to run the binary in.
pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As [`Workplace::new`], with the data set `shapes`: 40 images of each of three classes.
    pub fn with_shapes() -> Self {
        let workplace = Self::new();
        shapes(&workplace.path("shapes"), 40);
        workplace
    }

    /// The command with these arguments, words apart by spaces. It has a cache folder of its own.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gabor"));
        command.current_dir(self.0.path()).args(args.split_whitespace()).env_remove("RUST_LOG");
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &str) -> Finished {
        Finished::of(self.command(args))
    }

    /// Runs it, which must succeed, and reads the one JSON object that it prints.
    pub fn json(&self, args: &str) -> Value {
        self.run(args).expect_code(0).json()
    }

    /// Starts it.
    pub fn spawn(&self, args: &str) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Finished {
    pub fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The object that it printed; the last one of a run, which prints one for each event.
    pub fn json(&self) -> Value {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut objects: Vec<Value> = self.out.lines().map(parse).collect();
        let last = objects.pop().unwrap_or_default();
        assert!(objects.iter().all(|event| event["event"].is_string()), "{self:#?}");
        last
    }

    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// It must have failed with an error, not a panic, that says all of this.
    pub fn expect_error(self, words: &[&str]) -> Self {
        let finished = self.expect_code(1);
        assert!(finished.err.contains("error: "), "{finished:#?}");
        for word in words {
            assert!(finished.err.contains(word), "no {word:?} in {finished:#?}");
        }
        finished
    }
}

/// Writes `count` grey images of 12x12 of each of the classes `across`, `down` and `plain`: stripes of random phase and
/// contrast, or none.
pub fn shapes(folder: &Path, count: u32) {
    for (label, class) in ["across", "down", "plain"].into_iter().enumerate() {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            let noise = |x: u32, y: u32| {
                (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ number.wrapping_mul(97)) % 61
            };
            let image = GrayImage::from_fn(12, 12, |x, y| {
                let along = [Some(y), Some(x), None][label];
                let stripe = along.is_some_and(|at| (at + number) / 2 % 2 == 0);
                let level = 60 + noise(x, y) + if stripe { 100 + number } else { 0 };
                Luma([level as u8])
            });
            image.save(folder.join(format!("{number:03}.png"))).unwrap();
        }
    }
}

/// What --device calls the software GPU, where there is one; GABOR_TEST_GPU=required makes its absence a failure.
pub fn software_gpu(place: &Workplace) -> Option<String> {
    let list = place.json("devices --json");
    let devices = list["devices"].as_array().unwrap();
    let software = devices.iter().find(|device| device["type"] == "software");
    let required = std::env::var("GABOR_TEST_GPU").is_ok_and(|value| value == "required");
    assert!(software.is_some() || !required, "no software GPU in {list}");
    Some(software?["device"].as_str()?.to_string())
}

/// Waits until `ready`, for at most two minutes.
pub fn wait_until(mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited for too long");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A table as its rows, each without the columns that measure time.
pub fn rows_without_time(csv: &str) -> Vec<Vec<String>> {
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let timed = |column: usize| matches!(head[column], "images_per_second" | "seconds");
    let row = |line: &str| {
        let columns = line.split(',').enumerate().filter(|(at, _)| !timed(*at));
        columns.map(|(_, text)| text.to_string()).collect()
    };
    csv.lines().map(row).collect()
}
