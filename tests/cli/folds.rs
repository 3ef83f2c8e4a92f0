//! Cross-validation as a person runs it.

use std::fs;

use crate::support::Workplace;

const TRAIN: &str = "train shapes --device cpu --batch-size 32 --lr 0.003 --epochs 2 --folds 3";

#[test]
fn a_number_of_folds_that_cannot_be_leaves_no_folder() {
    let place = Workplace::with_shapes();
    for folds in ["0", "1", "99999999999"] {
        let error = place.run(&format!("train shapes --device cpu --folds {folds} --out run")).expect_code(1).err;
        assert!(error.contains("--folds") && !error.contains("fold 1"), "{error}");
        assert!(!place.path("run").exists(), "--folds {folds}");
    }
}

#[test]
fn each_fold_is_trained_and_the_figures_are_over_all() {
    let place = Workplace::with_shapes();
    let result = place.json(&format!("{TRAIN} --out run --json"));
    let folds = result["folds"].as_array().unwrap();
    assert_eq!((folds.len(), &result["finished"]), (3, &true.into()));
    let accuracies: Vec<f64> = folds.iter().map(|fold| fold["val"]["accuracy"].as_f64().unwrap()).collect();
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    assert!((result["mean"]["val"]["accuracy"].as_f64().unwrap() - mean).abs() < 1e-12, "{result}");
    assert!(result["std"]["val"]["accuracy"].is_number() && result["mean"]["test"].is_null(), "{result}");
    for number in 1..=3 {
        let config = place.read(&format!("run/fold-{number}/config.toml"));
        assert!(config.contains("folds = 3\n") && config.contains(&format!("fold = {number}\n")), "{config}");
    }
    // A fold is a run like any other.
    let evaluated = place.json("eval run/fold-2 --split val --device cpu --json");
    assert_eq!(evaluated["images"], 40);

    // One that is missing is trained again, and the others are not.
    let weights = place.bytes("run/fold-2/last.safetensors");
    fs::remove_dir_all(place.path("run/fold-2")).unwrap();
    let again = place.run("train --resume run --device cpu --json").expect_code(0);
    assert!(again.err.contains("fold 2 of 3") && !again.err.contains("fold 3 of 3"), "{again:#?}");
    let again = again.json();
    assert_eq!(again["mean"]["val"], result["mean"]["val"]);
    assert!(place.bytes("run/fold-2/last.safetensors") == weights);

    fs::remove_dir_all(place.path("run/fold-1")).unwrap();
    let extra = place.path("shapes/plain/999.png");
    fs::copy(place.path("shapes/plain/000.png"), &extra).unwrap();
    place.run("train --resume run --device cpu").expect_error(&["run/fold-2 began: 120 images then and 121 now"]);
    assert!(!place.path("run/fold-1").exists());
    fs::remove_file(extra).unwrap();
    place.run("train --resume run --device cpu").expect_code(0);
    for command in ["eval run", "predict run shapes/plain/000.png", "summary run", "train shapes --teacher run"] {
        place.run(command).expect_error(&["run holds a run for each fold: give one of them, such as ", "run/fold-1"]);
    }

    place.run("train --resume run --epochs 3").expect_error(&["trained alike", "--config run/config.toml"]);
    place.run(&format!("{TRAIN} --out run")).expect_error(&["holds a run already", "--resume run"]);
    let shown = place.run("train --resume run").expect_code(0).out;
    assert!(shown.contains("over 3 folds") && shown.contains("val accuracy") && shown.contains(" ± "), "{shown}");
}

#[test]
fn folds_that_cannot_be_are_refused() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --fold 4")).expect_error(&["`fold` (--fold) is 4 of only 3 `folds` (--folds)"]);
    place.run("train shapes --device cpu --fold 1").expect_error(&["say of how many"]);
    place.run(&format!("{TRAIN} --split 9:1")).expect_code(2);
    place.run("train shapes --device cpu --folds 200").expect_error(&["120 images are too few for 200 `folds`"]);
    assert!(!place.path("runs/seed-cnn-1").exists(), "a run that could not begin leaves no folder");
    fs::create_dir(place.path("parts")).unwrap();
    fs::rename(place.path("shapes"), place.path("parts/train")).unwrap();
    crate::support::shapes(&place.path("parts/val"), 4);
    place.run("train parts --device cpu --folds 3").expect_error(&["validation images of its own", "(--folds)"]);
}
