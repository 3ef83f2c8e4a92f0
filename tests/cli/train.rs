use std::fs;

use serde_json::Value;

use crate::support::{Workplace, rows_without_time};

const TRAIN: &str = "train shapes --device cpu --batch-size 16 --lr 0.003 --augment none";

#[test]
fn a_run_learns_and_leaves_its_folder() {
    let place = Workplace::with_shapes();
    let finished = place.run(&format!("{TRAIN} --epochs 8 --log-steps --schedule constant")).expect_code(0);
    for words in ["84 training, 24 validation, 12 test images of 12x12x1, 3 classes", "seed-cnn", "CPU", "epoch 8/8"] {
        assert!(finished.out.contains(words), "no {words:?} in {finished:#?}");
    }
    assert!(finished.out.contains("test accuracy") && finished.out.ends_with("the run is in runs/seed-cnn-1\n"));

    assert_eq!(place.read("runs/seed-cnn-1/classes.txt"), "across\ndown\nplain\n");
    let metrics = place.read("runs/seed-cnn-1/metrics.csv");
    let mut rows = metrics.lines();
    assert_eq!(
        rows.next().unwrap(),
        "epoch,step,train_loss,train_accuracy,val_loss,val_accuracy,learning_rate,images_per_second,seconds"
    );
    assert_eq!(rows.clone().count(), 8);
    let last: Vec<f64> = rows.next_back().unwrap().split(',').map(|column| column.parse().unwrap()).collect();
    assert_eq!((last[0], last[1], last[6]), (8.0, 48.0, 0.003));
    assert!(last[5] > 0.9, "validation accuracy {}", last[5]);

    let steps = place.read("runs/seed-cnn-1/steps.csv");
    assert_eq!(steps.lines().next(), Some("step,loss,learning_rate,images_per_second"));
    assert_eq!(steps.lines().count(), 1 + 48);
    for file in ["last.safetensors", "best.safetensors", "resume.safetensors", "config.toml"] {
        assert!(place.path("runs/seed-cnn-1").join(file).is_file(), "{file}");
    }
}

#[test]
fn json_is_an_object_for_each_event_and_the_rest_goes_to_standard_error() {
    let place = Workplace::with_shapes();
    let train = format!("{TRAIN} --epochs 2 --model lenet5 --image-size 28 --json --look-every 5 --out here");
    let finished = place.run(&train).expect_code(0);
    let events: Vec<Value> = finished.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).cloned().collect::<Vec<_>>();
    let begun = &events[0];
    assert_eq!((&begun["event"], &begun["run"], &begun["model"]), (&"run".into(), &"here".into(), &"lenet5".into()));
    assert_eq!((&begun["settings"]["recipe.epochs"], &begun["images"]["test"]), (&2.into(), &12.into()));
    let steps: Vec<u64> = named("step").iter().map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=12).collect::<Vec<u64>>());
    let looked = named("vitals");
    assert_eq!(looked.iter().map(|vitals| vitals["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 5, 10, 12]);
    assert!(looked[1]["parameters"][0]["gradient"].as_f64().unwrap() > 0.0, "{}", looked[1]);
    let losses = looked[1]["class_losses"].as_array().unwrap();
    assert!(losses.len() == begun["classes"].as_array().unwrap().len() && losses[0].as_f64().unwrap() > 0.0);
    let epochs = named("epoch");
    assert!(epochs.len() == 2 && epochs[1]["val"]["accuracy"].is_number(), "{epochs:?}");
    assert_eq!(named("checkpoint").last().unwrap()["step"], 12);
    let result = finished.json();
    assert_eq!(result["event"], "result");
    assert_eq!(result["train"]["loss"], epochs[1]["train"]["loss"]);
    assert_eq!(result["model"], "lenet5");
    assert_eq!((&result["epochs"], &result["steps"]), (&2.into(), &12.into()));
    assert_eq!(result["run"], "here");
    assert_eq!(result["finished"], true);
    assert_eq!(result["test"]["images"], 12);
    for figure in ["/train/loss", "/train/accuracy", "/val/loss", "/val/accuracy", "/test/loss", "/test/accuracy"] {
        assert!(result.pointer(figure).is_some_and(Value::is_number), "{figure} in {result}");
    }
    assert!(result["images_per_second"].as_f64().unwrap() > 0.0 && result["seconds"].as_f64().unwrap() > 0.0);
    assert!(result["device"].as_str().unwrap().contains("CPU"));
}

#[test]
fn one_seed_gives_one_result_whatever_the_threads() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --epochs 2 --seed 7 --out a --threads 1")).expect_code(0);
    place.run(&format!("{TRAIN} --epochs 2 --seed 7 --out b --threads 3")).expect_code(0);
    place.run(&format!("{TRAIN} --epochs 2 --seed 8 --out c")).expect_code(0);
    assert!(place.bytes("a/last.safetensors") == place.bytes("b/last.safetensors"));
    assert!(place.bytes("a/resume.safetensors") == place.bytes("b/resume.safetensors"));
    assert_eq!(rows_without_time(&place.read("a/metrics.csv")), rows_without_time(&place.read("b/metrics.csv")));
    assert!(place.bytes("a/last.safetensors") != place.bytes("c/last.safetensors"));
}

#[test]
fn the_configuration_of_a_run_repeats_it_and_flags_override_it() {
    let place = Workplace::with_shapes();
    let options = "--epochs 2 --optimizer sgd --nesterov --schedule cosine --warmup-steps 3 --weight-decay 1e-4 \
                   --label-smoothing 0.1 --clip-norm 1 --balance-classes --normalise none --split 8:1:1";
    place.run(&format!("{TRAIN} {options} --out a")).expect_code(0);
    place.run("train --config a/config.toml --out b").expect_code(0);
    assert_eq!(place.read("a/config.toml"), place.read("b/config.toml"));
    assert!(place.bytes("a/last.safetensors") == place.bytes("b/last.safetensors"));
    let config = place.read("a/config.toml");
    assert!(config.contains("momentum = 0.9") && config.contains("nesterov = true"), "{config}");

    place.run("train --config a/config.toml --out c --epochs 1 --momentum 0.5").expect_code(0);
    let config = place.read("c/config.toml");
    assert!(config.contains("epochs = 1\n") && config.contains("momentum = 0.5"), "{config}");
    assert!(config.contains("nesterov = true"), "{config}");
}

#[test]
fn run_folders_are_numbered_and_never_overwritten() {
    let place = Workplace::with_shapes();
    for _ in 0..2 {
        place.run(&format!("{TRAIN} --max-steps 1 -q")).expect_code(0);
    }
    assert!(place.path("runs/seed-cnn-2/last.safetensors").is_file());
    place
        .run(&format!("{TRAIN} --max-steps 1 --out runs/seed-cnn-1"))
        .expect_error(&["holds a run already", "--resume runs/seed-cnn-1"]);
}

#[test]
fn quiet_leaves_only_the_result() {
    let place = Workplace::with_shapes();
    let finished = place.run(&format!("{TRAIN} --max-steps 3 --quiet")).expect_code(0);
    assert!(finished.out.starts_with("test accuracy"), "{finished:#?}");
    assert_eq!(finished.err, "");
}

#[test]
fn the_bundled_data_is_the_default() {
    let place = Workplace::new();
    let result = place.json("train --device cpu --max-steps 2 --batch-size 8 --json");
    assert_eq!((&result["data"], &result["steps"]), (&"bundled MNIST".into(), &2.into()));
    assert_eq!(result["test"]["images"], 2000);
    assert!(result["val"]["accuracy"].is_number(), "{result}");
    let metrics = place.read("runs/seed-cnn-1/metrics.csv");
    assert!(!metrics.lines().nth(1).unwrap().contains(",,"), "a column is empty: {metrics}");
}

#[test]
fn batches_are_accumulated_and_parameters_set_apart() {
    let place = Workplace::with_shapes();
    // 84 training images: 11 batches of 8, 4 steps of three of them an epoch.
    let flags = "--batch-size 8 --accumulate 3 --freeze conv1.* --lr-scale dense*=2 --decay *.bias=0.1 --epochs 2";
    let result = place.json(&format!("train shapes --device cpu --out run {flags} --json"));
    assert_eq!((&result["epochs"], &result["steps"]), (&2.into(), &8.into()));
    let config = place.read("run/config.toml");
    assert!(config.contains("accumulate = 3") && config.contains("pattern = \"conv1.*\""), "{config}");
    let finished = place.run("train --resume run --epochs 3").expect_code(0);
    assert!(finished.out.contains("of them frozen") && finished.out.contains("resumed after step 8"), "{finished:#?}");
    place
        .run("train shapes --device cpu --freeze stage9.*")
        .expect_error(&["no parameter is called stage9.*", "near to it are"]);
    place.run("train shapes --device cpu --freeze *").expect_error(&["nothing to train"]);
    place.run("train shapes --device cpu --lr-scale fc").expect_code(2);
}

#[test]
fn figures_are_written_for_tensorboard() {
    let place = Workplace::with_shapes();
    let train = "train shapes --device cpu --batch-size 16 --epochs 2";
    place.run(&format!("{train} --max-steps 4 --tensorboard --out run")).expect_code(0);
    let files = || {
        let names =
            fs::read_dir(place.path("run")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("events.out.tfevents.")).collect();
        names.sort();
        names
    };
    let first = place.bytes(&format!("run/{}", files()[0]));
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for tag in ["train/loss", "epoch/val_accuracy", "test/accuracy", "recipe.epochs", "_hparams_/session_end_info"] {
        assert!(holds(&first, tag), "no {tag}");
    }
    // A run that goes on has another file, and one that cannot begin leaves none.
    place.run("train --resume run --max-steps 12").expect_code(0);
    assert_eq!(files().len(), 2);
    place.run("train shapes --device cpu --lr 1e30 --optimizer sgd --tensorboard --out none").expect_code(1);
    assert!(!place.path("none").exists());
}

#[test]
fn what_is_wrong_with_how_a_run_goes_is_told() {
    let place = Workplace::with_shapes();
    let healthy = place.run(&format!("{TRAIN} --epochs 8 --json --out healthy")).expect_code(0);
    let figures = healthy.json();
    assert!(figures["findings"] == serde_json::json!([]) && !healthy.err.contains("WARN"), "{healthy:#?}");
    let slow = "train shapes --device cpu --batch-size 4 --epochs 4 --lr 0 --augment none";
    let slow = place.run(&format!("{slow} --json --out slow")).expect_code(0);
    let figures = slow.json();
    assert!(slow.out.lines().any(|line| line.contains("\"finding\"") && line.contains("hardly falls")), "{slow:#?}");
    assert!(figures["findings"][0].as_str().unwrap().contains("hardly falls"), "{figures}");
    assert_eq!(slow.err.matches("try a higher `learning_rate` (--lr)").count(), 1, "{slow:#?}");
}
