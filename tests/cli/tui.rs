//! A run on the whole terminal; `script` of util-linux has one for it.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use crate::support::{Finished, Workplace, wait_until};

const TRAIN: &str = "train shapes --device cpu --batch-size 4 --tui";
/// What a terminal is told to give, and to take back, another screen.
const SCREEN: [&str; 2] = ["\u{1b}[?1049h", "\u{1b}[?1049l"];

/// gabor with these arguments on a terminal; none where there is no `script`.
fn on_a_terminal(place: &Workplace, args: &str) -> Option<Command> {
    let is_there = Command::new("script")
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux"));
    assert!(is_there || !cfg!(target_os = "linux"), "script of util-linux is missing");
    let gabor = env!("CARGO_BIN_EXE_gabor");
    let mut command = Command::new("script");
    command.args(["-qec", &format!("stty rows 40 cols 120; {gabor} {args}"), "/dev/null"]);
    command.current_dir(place.path("")).env("TERM", "xterm-256color").env("XDG_CACHE_HOME", place.path("cache"));
    is_there.then_some(command)
}

#[test]
fn a_run_is_shown_on_a_terminal_and_leaves_it() {
    let place = Workplace::with_shapes();
    let Some(mut command) = on_a_terminal(&place, &format!("{TRAIN} --epochs 4 --lr 0 --augment none --out run"))
    else {
        return;
    };
    command.stdin(Stdio::null());
    let finished = Finished::of(command).expect_code(0);
    let [before, shown] = finished.out.splitn(2, SCREEN[0]).collect::<Vec<_>>().try_into().unwrap();
    let [shown, after] = shown.splitn(2, SCREEN[1]).collect::<Vec<_>>().try_into().unwrap();
    assert!(before.contains("84 training, 24 validation, 12 test images"), "{before}");
    for word in ["seed-cnn", "Hardest", "Findings", "Epochs", "loss", "validation"] {
        assert!(shown.contains(word), "no {word} in {shown:?}");
    }
    // Warnings come when the terminal is free again.
    assert!(after.contains("hardly falls") && after.contains("the run is in run"), "{after}");
}

#[test]
fn a_key_ends_a_run_with_a_checkpoint() {
    let place = Workplace::with_shapes();
    let Some(mut command) = on_a_terminal(&place, &format!("{TRAIN} --epochs 100000 --out run")) else { return };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| place.path("run/last.safetensors").is_file());
    child.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    let mut shown = String::new();
    child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{shown}");
    assert!(shown.contains("go on with gabor train --resume run"), "{shown}");
    place.run("train --resume run --max-steps 1").expect_code(0);
}

#[test]
fn where_there_is_no_terminal_there_are_lines() {
    let place = Workplace::with_shapes();
    let finished = place.run(&format!("{TRAIN} --epochs 1 --out run")).expect_code(0);
    assert!(finished.err.contains("--tui needs a terminal") && finished.out.contains("epoch 1/1"), "{finished:#?}");
    let refused = place.run(&format!("{TRAIN} --json"));
    assert!(refused.code == Some(2) && refused.err.contains("--tui"), "{refused:#?}");
    place.run(&format!("{TRAIN} --quiet")).expect_error(&["--tui", "--quiet"]);
}
