//! A rehearsal of `benches/hardware/run.sh`, which measures on machines that nobody can try it on beforehand.
#![cfg(unix)]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gabor::check;
use serde_json::Value;

/// The script in its short mode, on the GPU that tests run on; `None` where there is none.
fn rehearsal(results: &Path) -> Option<Command> {
    let gpu = check::software_gpu()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/hardware/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(results).args(["--short", "--minutes", "20", "--device", gpu.info().name.as_str()]);
    command.env("GABOR", env!("CARGO_BIN_EXE_gabor")).env("PYTHON", "false").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Some(command)
}

/// The files of these endings.
fn files(results: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(results).expect("the results").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

fn parse(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error} in {text}", path.display()))
}

#[test]
fn every_result_is_left_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = folder.path().join("results");
    let Some(mut command) = rehearsal(&results) else { return };
    assert!(command.status().expect("bash").success());
    let steps = fs::read_to_string(results.join("steps.txt")).expect("the steps");
    assert!(!steps.contains("exit code 1"), "{steps}");
    for name in ["w5-kernels", "w6-kernels", "models", "models-tuned", "w1-batches", "w3-batches"] {
        let report = parse(&results.join(format!("{name}.json")));
        assert!(!report["results"].as_array().expect("figures").is_empty(), "{name}: {report}");
    }
    for name in ["profile-resnet18", "profile-seed-cnn"] {
        parse(&results.join(format!("{name}.json")));
        assert!(fs::read_to_string(results.join(format!("{name}.txt"))).expect("a table").contains("of floor"));
    }
    assert_eq!(parse(&results.join("check.txt"))["right"], true);
    assert!(parse(&results.join("devices.txt"))["devices"].is_array());
    assert_eq!(files(&results, "part"), Vec::<PathBuf>::new());

    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/hardware/tables.py");
    let Ok(made) = Command::new("python3").arg(tables).arg(&results).output() else { return };
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(text.contains("`gabor check`: right") && text.contains("| gemm 128 |"), "{text}");
}

#[test]
fn what_was_known_before_it_was_killed_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = folder.path().join("results");
    let Some(mut command) = rehearsal(&results) else { return };
    let mut child = command.process_group(0).spawn().expect("bash");
    let began = Instant::now();
    while !results.join("check.txt").exists() {
        assert!(began.elapsed() < Duration::from_secs(300), "it took too long");
        thread::sleep(Duration::from_millis(20));
    }
    let group = format!("-{}", child.id());
    Command::new("kill").args(["-KILL", "--", &group]).status().expect("kill");
    child.wait().expect("its end");
    assert_eq!(parse(&results.join("check.txt"))["right"], true);
    files(&results, "json").iter().for_each(|file| drop(parse(file)));
}
