use std::{fs, process::Child};

use gabor::train::read_card;

use crate::support::{Workplace, rows_without_time, wait_until};

const TRAIN: &str = "train shapes --device cpu --batch-size 16 --seed 5 --log-steps --epochs 30 --augment strong \
                     --alternating-flip --ema 0.9 --schedule constant --plateau 4 --keep-best 3";
/// Steps of the whole run: 30 epochs of 6.
const STEPS: u64 = 180;

/// Waits until the run in the folder `run` has a checkpoint after `step`.
fn wait_for_step(place: &Workplace, run: &str, step: u64) {
    let path = place.path(run).join("resume.safetensors");
    wait_until(|| path.is_file() && read_card(&path).unwrap().progress.step >= step);
}

fn assert_same_run(place: &Workplace, a: &str, b: &str) {
    let weights = |run: &str| {
        let names =
            fs::read_dir(place.path(run)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
        names.sort();
        names
    };
    let files = weights(a);
    assert_eq!(files, weights(b));
    let kept = read_card(&place.path(a).join("resume.safetensors")).unwrap().progress.kept;
    assert_eq!((files.len(), kept.len()), (6, 3), "{files:?}");
    for file in files {
        assert!(place.bytes(&format!("{a}/{file}")) == place.bytes(&format!("{b}/{file}")), "{file} differs");
    }
    let best = |file: &str| read_card(&place.path(a).join(file)).unwrap().progress.best_epoch;
    assert_eq!(best(&format!("{}.safetensors", kept[0].name())), best("best.safetensors"));
    for file in ["metrics.csv", "steps.csv"] {
        let rows = |run: &str| rows_without_time(&place.read(&format!("{run}/{file}")));
        assert_eq!(rows(a), rows(b), "{file}");
    }
}

fn interrupt(child: &Child) {
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_run_killed_twice_ends_with_the_same_bits() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --out whole")).expect_code(0);

    let mut child = place.spawn(&format!("{TRAIN} --out killed --checkpoint-every 0"));
    wait_for_step(&place, "killed", 20);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was to be killed before its end");
    assert!(read_card(&place.path("killed/last.safetensors")).is_ok());

    let mut child = place.spawn("train --resume killed");
    wait_for_step(&place, "killed", 100);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was to be killed before its end");

    let finished = place.run("train --resume killed --checkpoint-every 60").expect_code(0);
    assert!(finished.out.contains("resumed after step"), "{finished:#?}");
    assert_eq!(read_card(&place.path("killed/last.safetensors")).unwrap().progress.step, STEPS);
    assert_same_run(&place, "whole", "killed");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_a_checkpoint_and_goes_on() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --out whole")).expect_code(0);

    let mut child = place.spawn(&format!("{TRAIN} --out stopped --checkpoint-every 0"));
    wait_for_step(&place, "stopped", 3);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let step = read_card(&place.path("stopped/resume.safetensors")).unwrap().progress.step;
    assert!((3..STEPS).contains(&step), "stopped at {step}");

    place.run("train --resume stopped --checkpoint-every 60").expect_code(0);
    assert_same_run(&place, "whole", "stopped");
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_a_run_at_once() {
    let place = Workplace::with_shapes();
    let slow = "train shapes --device cpu --model resnet18 --image-size 96 --batch-size 64 --out run";
    let mut child = place.spawn(slow);
    // It is written when interrupts are being caught already.
    wait_until(|| place.path("run/metrics.csv").exists());
    interrupt(&child);
    interrupt(&child);
    // A third one where the system made one of two.
    wait_until(|| {
        let ended = child.try_wait().unwrap().is_some();
        if !ended {
            interrupt(&child);
        }
        ended
    });
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!place.path("run/resume.safetensors").exists(), "the first step was not waited for");
}

#[test]
fn a_run_that_was_cut_short_goes_on_for_longer() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --out whole")).expect_code(0);
    // In the middle of the first epoch, of another, and then at the end of one. What is measured within an epoch, of weights that
    // the whole run does not measure, is the best nowhere.
    for (steps, best) in [(2, 1), (4, 1), (8, 1), (18, 3)] {
        let flags = if steps == 2 { format!("{TRAIN} --out cut") } else { "train --resume cut".to_string() };
        place.run(&format!("{flags} --max-steps {steps}")).expect_code(0);
        let progress = read_card(&place.path("cut/best.safetensors")).unwrap().progress;
        assert!(progress.best_epoch <= best && (steps < 8 || progress.step.is_multiple_of(6)), "{progress:?}");
    }
    let result = place.json("train --resume cut --max-steps 1000 --json");
    assert_eq!(result["steps"], STEPS);
    assert_same_run(&place, "whole", "cut");

    let kept = result["kept"].as_array().unwrap();
    let file = format!("whole/best-{}.safetensors", kept[2]["epoch"]);
    let evaluated = place.json(&format!("eval {file} --split val --device cpu --json"));
    assert_eq!(evaluated["accuracy"], kept[2]["value"], "{evaluated}");

    // There is nothing left to do: it is evaluated again.
    let result = place.json("train --resume cut --json");
    assert_eq!((&result["steps"], &result["test"]["images"]), (&STEPS.into(), &12.into()));
    let told = place.run("train --resume cut").expect_code(0).out;
    assert!(told.contains("the best on the validation images"), "{told}");
}

#[test]
fn what_defines_a_run_cannot_change_when_it_is_resumed() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --out run --max-steps 2")).expect_code(0);
    let finished = place.run("train --resume run --lr 1").expect_code(2);
    for words in ["--resume <DIR>", "--lr <RATE>", "what may change is", "--epochs", "--keep-best"] {
        assert!(finished.err.contains(words), "no {words} in {finished:#?}");
    }

    let config = place.read("run/config.toml");
    fs::write(place.path("run/config.toml"), config.replace("batch_size = 16", "batch_size = 4")).unwrap();
    place.run("train --resume run").expect_error(&["6 steps an epoch", "21", "same data and batch size"]);

    let other = config.replace("model = \"seed-cnn\"", "model = \"resnet18\"");
    fs::write(place.path("run/config.toml"), other).unwrap();
    place.run("train --resume run").expect_error(&["resume.safetensors", "checkpoint of seed-cnn", "resnet18"]);

    fs::write(place.path("run/config.toml"), config).unwrap();
    fs::remove_dir_all(place.path("shapes/plain")).unwrap();
    place.run("train --resume run").expect_error(&["the data has changed", "across, down, plain"]);
}

#[test]
fn a_run_of_balanced_samples_is_resumed_bit_for_bit() {
    let place = Workplace::with_shapes();
    for number in 5..40 {
        fs::remove_file(place.path(&format!("shapes/plain/{number:03}.png"))).unwrap();
    }
    let train = "train shapes --device cpu --batch-size 16 --sample balanced --schedule constant --epochs 3 --out";
    place.run(&format!("{train} whole")).expect_code(0);
    place.run(&format!("{train} parts --max-steps 5")).expect_code(0);
    place.run("train --resume parts --max-steps 1000").expect_code(0);
    assert!(place.bytes("whole/resume.safetensors") == place.bytes("parts/resume.safetensors"));
    place.run(&format!("{train} other").replace("--sample balanced", "")).expect_code(0);
    assert!(place.bytes("whole/last.safetensors") != place.bytes("other/last.safetensors"));
}

#[test]
fn what_is_no_run_cannot_be_resumed() {
    let place = Workplace::with_shapes();
    place.run("train --resume nowhere").expect_error(&["nowhere", "config.toml"]);
    place.run(&format!("{TRAIN} --out run --max-steps 2")).expect_code(0);
    let whole = place.bytes("run/resume.safetensors");
    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(place.path("run/resume.safetensors"), &whole[..length]).unwrap();
        place.run("train --resume run").expect_error(&["resume.safetensors", "not a complete safetensors file"]);
    }
    fs::remove_file(place.path("run/resume.safetensors")).unwrap();
    place.run("train --resume run").expect_error(&["run/resume.safetensors is missing", "--pretrained run"]);
}
