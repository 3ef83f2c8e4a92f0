use std::fs;

use crate::support::{Workplace, shapes};

fn trained() -> Workplace {
    let place = Workplace::with_shapes();
    place.run("train shapes --device cpu --batch-size 16 --lr 0.003 --epochs 8 --out run").expect_code(0);
    place
}

#[test]
fn evaluation_has_the_figures_of_training() {
    let place = trained();
    let result = place.json("eval run --device cpu --json");
    assert_eq!((&result["images"], &result["split"]), (&12.into(), &"test".into()));
    assert!(result["accuracy"].as_f64().unwrap() > 0.9, "{result}");
    assert!(result["loss"].as_f64().unwrap() > 0.0 && result["top5_accuracy"].is_null(), "{result}");
    assert_eq!(result["per_class"].as_array().unwrap().len(), 3);
    assert_eq!(result["per_class"][1]["class"], "down");
    let confusion: Vec<Vec<u64>> = serde_json::from_value(result["confusion"].clone()).unwrap();
    assert_eq!(confusion.iter().map(|row| row.iter().sum::<u64>()).collect::<Vec<_>>(), [4, 4, 4]);
    assert_eq!(result["confusion_normalised"][1][2], confusion[1][2] as f64 / 4.0);

    for (split, images) in [("train", 84), ("val", 24), ("test", 12), ("all", 120)] {
        let result = place.json(&format!("eval run --split {split} --weights last --device cpu --json"));
        assert_eq!(result["images"], images, "{split}");
    }

    let finished = place.run("eval run/best.safetensors shapes --split all --device cpu").expect_code(0);
    assert!(finished.out.contains("  120 (all)\n"), "{finished:#?}");
    assert!(finished.out.contains("across") && finished.out.contains("predicted as"), "{finished:#?}");
}

#[test]
fn each_prediction_is_written_and_models_are_compared() {
    let place = trained();
    let evaluated = place.json("eval run --device cpu --split all --csv said.csv --json");
    let said = place.read("said.csv");
    assert!(said.starts_with("image,class,taken_for,probability,loss,across,down,plain\n"), "{said}");
    let rows: Vec<Vec<&str>> = said.lines().skip(1).map(|row| row.split(',').collect()).collect();
    assert!(rows.len() == 120 && rows[0][0].ends_with("shapes/across/001.png") && rows[0][1] == "across", "{said}");
    let right = rows.iter().filter(|row| row[1] == row[2]).count() as f64;
    assert!((evaluated["accuracy"].as_f64().unwrap() - right / 120.0).abs() < 1e-9, "{evaluated}");
    let wrong = evaluated["mistakes"].as_array().unwrap().len().min(20);
    assert_eq!(wrong, (120 - right as usize).min(20));

    // The last point of a class's curves is that of all images.
    place.run("eval run --device cpu --split val --curves curves.csv --page val.html").expect_code(0);
    let curves = place.read("curves.csv");
    assert!(curves.starts_with("class,threshold,precision,recall,false_positive_rate\nacross,"), "{curves}");
    let last = curves.lines().rfind(|row| row.starts_with("across,")).unwrap();
    assert!(last.ends_with(",0.3333333333333333,1,1"), "{last}");
    let page = place.read("val.html");
    assert!(page.contains("On 24 validation images:") && page.contains("id=\"mistakes\""), "{page}");
    let all = place.run("eval run --device cpu --split all --page all.html");
    all.expect_error(&["--page shows one part", "--split train"]);

    // Another that was hardly trained, and on images of another size.
    let other = "train shapes --device cpu --image-size 16 --max-steps 1 --out other";
    place.run(other).expect_code(0);
    let both = place.json("eval run --split all --against other --against run --device cpu --json");
    let figures = &both["against"][0];
    let counts = ["only_first", "only_second"].map(|name| figures["mcnemar"][name].as_f64().unwrap());
    assert_eq!(counts[0] - counts[1], right - (figures["accuracy"].as_f64().unwrap() * 120.0).round(), "{figures}");
    assert!(figures["mcnemar"]["p"].as_f64().unwrap() < 1e-4, "{figures}");
    assert_eq!((&both["against"][1]["mcnemar"]["p"], &both["against"][1]["loss"]), (&1.0.into(), &both["loss"]));
    let shown = place.run("eval run --against other --device cpu").expect_code(0).out;
    assert!(shown.contains("first right alone") && shown.contains("other/best.safetensors"), "{shown}");
    place.run("eval run --against nowhere --device cpu").expect_error(&["nowhere does not exist"]);
}

#[test]
fn a_temperature_is_kept_in_the_model() {
    let place = trained();
    let before = place.json("eval run --split val --weights last --device cpu --json");
    let calibrated = place.json("eval run --calibrate --split train --device cpu --json");
    let again = place.json("eval run --split train --device cpu --json");
    assert_eq!(again["temperature"], calibrated["temperature"]);
    assert!(again["temperature"].as_f64().unwrap() != 1.0, "{again}");
    for figure in ["loss", "calibration_error", "accuracy", "macro_auc"] {
        let [kept, fitted] = [&again, &calibrated].map(|figures| figures[figure].as_f64().unwrap());
        assert!((kept - fitted).abs() < 1e-5, "{figure}: {kept} and {fitted}");
    }
    assert_eq!(place.json("eval run --split val --weights last --device cpu --json"), before);
    // At the temperature that suits them there is no better one.
    let twice = place.json("eval run --calibrate --split train --device cpu --json");
    let [once, twice] = [&calibrated, &twice].map(|figures| figures["temperature"].as_f64().unwrap());
    assert!((once / twice - 1.0).abs() < 1e-3, "{once} and {twice}");
}

#[test]
fn without_test_images_it_is_told_which_are_measured() {
    let place = Workplace::with_shapes();
    place.run("train shapes --validation 0.2 --device cpu --max-steps 2 --out run").expect_code(0);
    let finished = place.run("eval run --device cpu").expect_code(0);
    assert!(finished.out.contains("  24 (val)\n"), "{finished:#?}");
    assert!(finished.err.contains("has no test images: these are the validation images"), "{finished:#?}");
    place.run("train shapes --validation 0.2 --split 8:2 --device cpu").expect_error(&["give one of them"]);
    fs::create_dir(place.path("parts")).unwrap();
    fs::rename(place.path("shapes"), place.path("parts/train")).unwrap();
    shapes(&place.path("parts/test"), 4);
    place
        .run("train parts --split 8:2 --device cpu")
        .expect_error(&["parts of its own", "`validation` (--validation)"]);
    place.run("train parts --validation 0.2 --device cpu --max-steps 1 --out divided").expect_code(0);
}

#[test]
fn other_data_is_matched_by_the_names_of_its_classes() {
    let place = trained();
    let old = place.json("eval run --split all --device cpu --json");
    // Without the first class, all numbers of classes are others.
    shapes(&place.path("other"), 40);
    fs::remove_dir_all(place.path("other/across")).unwrap();
    let new = place.json("eval run other --device cpu --json");
    assert_eq!((&new["images"], &new["split"]), (&80.into(), &"all".into()));
    assert_eq!(new["confusion"][1], old["confusion"][1]);
    assert_eq!(new["confusion"][2], old["confusion"][2]);
    assert_eq!(new["per_class"][0]["recall"], serde_json::Value::Null);

    fs::rename(place.path("other/down"), place.path("other/up")).unwrap();
    place.run("eval run other --device cpu").expect_error(&["does not know: up", "across, down, plain"]);
}

#[test]
fn predictions_are_ranked_and_unreadable_images_reported() {
    let place = trained();
    fs::write(place.path("broken.png"), b"no image").unwrap();
    let finished = place.run("predict run shapes/down/001.png broken.png shapes/across/002.png --json --device cpu");
    let finished = finished.expect_error(&["broken.png"]);
    let result = finished.json();
    let images = result["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!(images[0]["predictions"][0]["class"], "down");
    assert!(images[1]["error"].as_str().unwrap().contains("broken.png"));
    assert_eq!(images[2]["predictions"][0]["class"], "across");
    let probabilities: Vec<f64> =
        images[0]["predictions"].as_array().unwrap().iter().map(|p| p["probability"].as_f64().unwrap()).collect();
    assert_eq!(probabilities.len(), 3);
    assert!(probabilities.is_sorted_by(|a, b| a >= b) && (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5);

    let finished = place.run("predict run shapes/plain/003.png --top 1 --device cpu").expect_code(0);
    assert!(finished.out.contains("%  plain\n") && finished.out.lines().count() == 2, "{finished:#?}");
}

#[test]
fn broken_or_missing_weights_are_named() {
    let place = trained();
    place.run("eval nowhere").expect_error(&["nowhere does not exist"]);
    place.run("eval shapes").expect_error(&["shapes has no weights"]);
    let whole = place.bytes("run/best.safetensors");
    fs::write(place.path("run/best.safetensors"), &whole[..whole.len() / 2]).unwrap();
    for command in ["eval run", "predict run shapes/down/001.png"] {
        place.run(command).expect_error(&["best.safetensors", "not a complete safetensors file"]);
    }
    place.run("eval run --weights last --device cpu").expect_code(0);
    fs::write(place.path("run/best.safetensors"), b"PK\x03\x04").unwrap();
    place.run("eval run --device cpu").expect_error(&["best.safetensors: is a file of PyTorch", "`pretrained`"]);
    place.run("predict run shapes/down/001.png --top 0").expect_code(2);
    fs::write(place.path("run/best.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    place.run("eval run --device cpu").expect_error(&["best.safetensors", "written by another program"]);
}

#[test]
fn a_class_without_test_images_has_no_figures() {
    let place = Workplace::new();
    shapes(&place.path("data/train"), 20);
    shapes(&place.path("data/test"), 4);
    fs::remove_dir_all(place.path("data/test/plain")).unwrap();
    let trained = place.run("train data --device cpu --epochs 2 --out run").expect_code(0);
    assert!(trained.out.contains("on 8 images") && !trained.out.contains("NaN"), "{trained:#?}");
    assert!(!place.read("run/report.html").contains("NaN"));
    let result = place.json("eval run --device cpu --json");
    let plain = &result["per_class"][2];
    assert_eq!((&plain["class"], &plain["images"]), (&"plain".into(), &0.into()));
    for undefined in
        ["/per_class/2/recall", "/per_class/2/auc", "/per_class/2/average_precision", "/confusion_normalised/2"]
    {
        assert_eq!(result.pointer(undefined), Some(&serde_json::Value::Null), "{undefined} in {result}");
    }
    let shown = place.run("eval run --device cpu").expect_code(0).out;
    assert!(shown.contains("plain") && !shown.contains("NaN"), "{shown}");

    // One that there is nothing to learn of.
    shapes(&place.path("other/train"), 4);
    fs::create_dir_all(place.path("other/test/spots")).unwrap();
    fs::copy(place.path("data/test/down/000.png"), place.path("other/test/spots/000.png")).unwrap();
    let failed = place.run("train other --device cpu");
    failed.expect_error(&["other/test/spots is a class that the training set does not have"]);
}

#[test]
fn what_a_command_did_not_write_is_not_replaced() {
    let place = trained();
    let image = fs::read(place.path("shapes/down/000.png")).unwrap();
    let weights = fs::read(place.path("run/best.safetensors")).unwrap();
    for command in [
        "predict run shapes/down/000.png --device cpu --csv shapes/down/000.png",
        "eval run --device cpu --csv run/best.safetensors",
        "eval run --device cpu --page run/best.safetensors",
        "compare run run --page run/best.safetensors",
    ] {
        place.run(command).expect_error(&["is there already, and no file of this kind", "give another name"]);
    }
    assert!(image == fs::read(place.path("shapes/down/000.png")).unwrap());
    assert!(weights == fs::read(place.path("run/best.safetensors")).unwrap());
    place.run("eval run --device cpu --csv a.csv --curves a.csv").expect_error(&["a.csv is given for two files"]);
    place.run("eval run --device cpu --csv none/a.csv").expect_error(&["cannot write none/a.csv", "another place"]);
    for _ in 0..2 {
        place.run("eval run --device cpu --csv a.csv --curves b.csv --page c.html").expect_code(0);
    }
}

#[test]
fn data_that_changed_is_told_and_data_that_moved_is_known() {
    let place = trained();
    let before = place.json("eval run --device cpu --json");
    fs::rename(place.path("shapes"), place.path("moved")).unwrap();
    place.run("eval run --device cpu").expect_error(&["give its place as DATA", "shapes does not exist"]);
    let moved = place.json("eval run moved --device cpu --json");
    assert_eq!((&moved["split"], &moved["images"]), (&before["split"], &before["images"]));
    fs::rename(place.path("moved"), place.path("shapes")).unwrap();
    fs::remove_file(place.path("shapes/down/000.png")).unwrap();
    let changed = place.run("eval run --device cpu").expect_code(0);
    assert!(changed.err.contains("the data has changed since") && changed.err.contains("trained on"), "{changed:#?}");
}
