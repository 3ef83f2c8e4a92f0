use std::{fmt::Write, fs};

use image::{GrayImage, Luma};
use serde_json::Value;

use crate::support::Workplace;

const TRAIN: &str = "train photos --labels labels.csv --device cpu --batch-size 16 --lr 0.003";

/// A folder of 120 images of 12x12, each with stripes across, down, both or neither, and their labels.
fn photos() -> Workplace {
    let place = Workplace::new();
    fs::create_dir(place.path("photos")).unwrap();
    let mut labels = "path,tags\n".to_string();
    for number in 0..120u32 {
        let (across, down) = (number.is_multiple_of(2), (number / 2).is_multiple_of(3));
        let striped = |at: u32, on: bool| if on && ((at + number / 6) / 2).is_multiple_of(2) { 80 } else { 0 };
        let level = |x: u32, y: u32| 30 + number % 40 + striped(y, across) + striped(x, down);
        let image = GrayImage::from_fn(12, 12, |x, y| Luma([level(x, y) as u8]));
        image.save(place.path("photos").join(format!("{number:03}.png"))).unwrap();
        let tags = [("across", across), ("down", down)];
        let tags: Vec<&str> = tags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        writeln!(labels, "{number:03}.png,{}", tags.join("|")).unwrap();
    }
    fs::write(place.path("labels.csv"), labels).unwrap();
    place
}

#[test]
fn images_of_several_classes_are_trained_evaluated_and_predicted() {
    let place = photos();
    let result = place.json(&format!("{TRAIN} --epochs 12 --balance-classes --out run --json"));
    assert_eq!((&result["task"], &result["test"]["images"]), (&"multi-label".into(), &12.into()));
    assert!(result["test"]["mean_average_precision"].as_f64().unwrap() > 0.9, "{result}");
    let told = result["findings"][0].as_str().unwrap();
    assert!(
        told.contains("labels.csv is read as multi-label") && told.contains("line 2 has several classes"),
        "{told}"
    );
    let metrics = place.read("run/metrics.csv");
    assert!(
        metrics.starts_with("epoch,step,train_loss,train_accuracy,val_loss,val_mean_average_precision,val_accuracy,")
    );

    // The weights alone are a whole model.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::rename(place.path("run/best.safetensors"), place.path("elsewhere/model.safetensors")).unwrap();
    let result = place.json("eval run --weights last --split all --device cpu --json");
    assert_eq!(result["images"], 120);
    let images: Vec<&Value> = result["per_class"].as_array().unwrap().iter().map(|class| &class["images"]).collect();
    assert_eq!(images, [60, 40]);
    for figure in ["average_precision", "precision", "recall", "f1"] {
        assert!(result["per_class"][1][figure].as_f64().unwrap() > 0.8, "{figure} in {result}");
    }
    let shown = place.run("eval run --weights last --device cpu").expect_code(0).out;
    for words in ["mean average precision", "exact match", "recall", "down"] {
        assert!(shown.contains(words), "no {words} in {shown}");
    }
    // Across and down, and neither.
    let result = place.json("predict elsewhere/model.safetensors photos/000.png photos/003.png --json --device cpu");
    let probability = |image: usize, rank: usize| result["images"][image]["predictions"][rank]["probability"].as_f64();
    assert!(probability(0, 1).unwrap() > 0.5 && probability(1, 0).unwrap() < 0.5, "{result}");

    // Thresholds are fitted and kept, and what is predicted from then on is by them.
    let told = place.run("eval run --weights last --split all --calibrate --device cpu").expect_code(0);
    assert!(told.out.contains("a threshold for each class, by 120 images: macro F1"), "{}", told.out);
    let result = place.json("eval run --weights last --split all --device cpu --json");
    for class in result["per_class"].as_array().unwrap() {
        assert!((class["f1"].as_f64().unwrap() - class["f1_there"].as_f64().unwrap()).abs() < 1e-6, "{class}");
        assert!(class["threshold"].as_f64() < class["best_threshold"].as_f64(), "{class}");
    }
    gabor::train::keep_thresholds(&place.path("run/last.safetensors"), &[1.0, 0.0]).unwrap();
    let chosen = place.run("predict run --weights last photos/000.png --device cpu --csv told.csv").expect_code(0).out;
    let marked: Vec<&str> = chosen.lines().filter(|line| line.starts_with('*')).collect();
    assert!(marked.len() == 1 && marked[0].ends_with("down"), "{chosen}");
    assert!(place.read("told.csv").contains("000.png,down,,,"), "{}", place.read("told.csv"));
}

#[test]
fn a_run_of_several_classes_is_resumed_bit_for_bit() {
    let place = photos();
    place.run(&format!("{TRAIN} --schedule constant --epochs 3 --out whole")).expect_code(0);
    place.run(&format!("{TRAIN} --schedule constant --epochs 3 --max-steps 7 --out parts")).expect_code(0);
    place.run("train --resume parts --max-steps 1000 --device cpu").expect_code(0);
    assert!(place.bytes("whole/last.safetensors") == place.bytes("parts/last.safetensors"));
}

#[test]
fn a_file_of_one_class_an_image_trains_a_classifier() {
    let place = photos();
    let labels: String = (0..120).map(|at| format!("photos/{at:03}.png {}\n", ["odd", "even"][(at + 1) % 2])).collect();
    fs::write(place.path("labels.txt"), labels).unwrap();
    let result = place.json("train --labels labels.txt --device cpu --epochs 2 --out run --json");
    assert_eq!((&result["task"], &result["model"]), (&"classification".into(), &"seed-cnn".into()));
    assert_eq!(place.read("run/classes.txt"), "even\nodd\n");
}

#[test]
fn images_of_a_group_stay_on_one_side() {
    let place = photos();
    let labels = (0..120).map(|at| format!("{at:03}.png,{},patient {}\n", ["odd", "even"][(at + 1) % 2], at / 10));
    let labels = "path,label,patient\n".to_string() + &labels.collect::<String>();
    fs::write(place.path("labels.csv"), labels).unwrap();
    let train = "train photos --labels labels.csv --device cpu";
    let finished = place.run(&format!("{train} --group patient --max-steps 1 --out run")).expect_code(0);
    assert!(finished.out.contains("90 training, 20 validation, 10 test images"), "{finished:#?}");
    place.run(&format!("{train} --group camera")).expect_error(&[
        "labels.csv",
        "no column \"camera\" for `group` (--group)",
        "its columns are label, patient",
    ]);
    place.run("train photos --group patient --device cpu").expect_error(&["(--group) patient", "(--labels)"]);
}

#[test]
fn labels_that_cannot_be_are_named() {
    let place = photos();
    place.run("train photos --labels missing.csv --device cpu").expect_error(&["missing.csv"]);
    place
        .run(&format!("{TRAIN} --sample balanced"))
        .expect_error(&["`sample` (--sample) balanced", "(--balance-classes)"]);
    place.run("train photos --task multi-label --device cpu").expect_error(&["multi-label", "(--labels)"]);
    for (text, words) in [
        ("path,tags\n", &["labels.csv", "no line after"][..]),
        ("000.png,across\n000.png,down\n", &["lines 1 and 2 are both of 000.png"]),
        ("path,label\nnowhere.png,across\n", &["nowhere.png of line 2"]),
        ("path,across,down\n000.png,1,maybe\n", &["line 2", "maybe", "column down"]),
    ] {
        fs::write(place.path("labels.csv"), text).unwrap();
        place.run(TRAIN).expect_error(words);
    }
    fs::write(place.path("labels.csv"), "000.png,across\n./000.png,down\n").unwrap();
    place.run(TRAIN).expect_error(&["lines 1 and 2 are both of ./000.png"]);
    fs::write(place.path("labels.csv"), "path,label\n000.png,\"a\nb\"\n001.png,c\n").unwrap();
    place.run(TRAIN).expect_error(&["the class \"a\\nb\" has a line break"]);
    fs::write(place.path("labels.csv"), "path,across,down\n000.png,1,1\n001.png,0,1\n").unwrap();
    place
        .run(&format!("{TRAIN} --task classification"))
        .expect_error(&["line 2 gives 000.png the classes across, down"]);
}
