use std::fs;

use crate::support::{Finished, Workplace};

const TRAIN: &str = "train shapes --device cpu --batch-size 16 --max-steps 2";

#[test]
fn unknown_names_are_answered_with_what_there_is() {
    let place = Workplace::with_shapes();
    let lists = [
        ("--model alexnet", "seed-cnn"),
        ("--optimizer adafactor", "adamw"),
        ("--schedule never", "cosine"),
        ("--fit squeeze", "pad"),
    ];
    for (flag, known) in lists {
        let finished = place.run(&format!("{TRAIN} {flag}")).expect_code(2);
        assert!(finished.err.contains("possible values") && finished.err.contains(known), "{finished:#?}");
    }
    place.run("train shapes --device geforce9").expect_error(&["geforce9", "adapters", "--device cpu"]);
    fs::write(place.path("c.toml"), "model = \"alexnet\"\n").unwrap();
    place.run("train shapes --config c.toml").expect_error(&["alexnet", "seed-cnn, lenet5"]);
    fs::write(place.path("c.toml"), "modle = \"lenet5\"\n").unwrap();
    place.run("train shapes --config c.toml").expect_error(&["c.toml", "modle", "model"]);
    place.run("train shapes --config d.toml").expect_error(&["d.toml"]);
    assert!(!place.path("runs").exists(), "a run that could not begin leaves no folder");
}

#[test]
fn without_an_adapter_the_cpu_is_left() {
    let place = Workplace::with_shapes();
    let blind = |args: &str| {
        let mut command = place.command(args);
        command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
        Finished::of(command)
    };
    if cfg!(target_os = "linux") {
        blind("train shapes --device gpu").expect_error(&["no GPU was found", "--device cpu"]);
        let finished = blind("train shapes --batch-size 16 --max-steps 2").expect_code(0);
        assert!(finished.out.contains("device  CPU"), "{finished:#?}");
    }
}

#[test]
fn settings_without_an_effect_are_told() {
    let place = Workplace::with_shapes();
    let told = |flags: &str| {
        let train = if flags.contains("--batch-size") { TRAIN.replace("--batch-size 16", "") } else { TRAIN.into() };
        place.run(&format!("{train} {flags}")).expect_code(0).err
    };
    let cases = [
        ("--hue 0.1 --saturation 0.2", &["`hue` (--hue) has no effect", "`saturation` (--saturation)"][..]),
        ("--policy-magnitude 5", &["`policy_magnitude` (--policy-magnitude)", "`policy` (--policy) randaugment"]),
        ("--plateau-factor 0.5 --min-lr 1e-5 --min-delta 0.1", &["(--plateau-factor)", "(--min-lr)", "(--min-delta)"]),
        ("--mixup 0.2 --batch-size 1", &["`mixup` (--mixup) has no effect", "(--batch-size) of 1"]),
        ("--warmup-steps 2", &["`warmup_steps` (--warmup-steps) is 2 and the run has 2 steps"]),
        ("--teacher-weight 0.9", &["no `teacher` (--teacher)"]),
    ];
    for (flags, words) in cases {
        let error = told(flags);
        assert!(words.iter().all(|word| error.contains(word)), "{flags}: {error}");
    }
    let error = told("--plateau 2 --plateau-factor 0.5 --min-delta 0.1 --warmup-steps 1 --policy randaugment");
    assert!(!error.contains("no effect") && !error.contains("warmup_steps"), "{error}");
}

#[test]
fn settings_out_of_range_are_named() {
    let place = Workplace::with_shapes();
    let cases = [
        ("--epochs 0", "epochs"),
        ("--batch-size 0", "batch_size"),
        ("--lr -1", "learning_rate"),
        ("--lr nan", "learning_rate"),
        ("--label-smoothing 1", "label_smoothing"),
        ("--momentum 0.5", "--momentum is for"),
        ("--optimizer sgd --momentum 1.5", "momentum 1.5"),
        ("--nesterov", "--nesterov is for"),
        ("--checkpoint-every -1", "checkpoint_every"),
        ("--validation 2", "validation"),
        ("--normalise 0.5,0.5/0.1,0.1", "1 channels"),
        ("--image-size 1000000", "1000000"),
        ("--model seed-cnn --image-size 4", "layer"),
    ];
    for (flags, word) in cases {
        // A negative number is a value, not a flag.
        let (flag, value) = flags.rsplit_once(' ').unwrap_or((flags, ""));
        let flags = if value.is_empty() { flag.to_string() } else { format!("{flag}={value}") };
        place.run(&format!("train shapes --device cpu {flags}")).expect_error(&[word]);
    }
    for flags in ["--image-size 3x", "--split 1", "--normalise 3", "--channels 2", "--seed -1"] {
        place.run(&format!("train shapes --device cpu {flags}")).expect_code(2);
    }
    assert!(!place.path("runs").exists(), "a run that could not begin leaves no folder");
}

#[test]
fn a_batch_that_does_not_fit_is_answered_with_one_that_does() {
    let place = Workplace::with_shapes();
    let finished = place.run("train shapes --device cpu --batch-size 1000000");
    finished.expect_error(&["a batch of 1000000 images needs", "bytes", "the limit", "the largest batch that fits"]);
}

#[test]
fn unreadable_images_are_skipped_with_a_warning_or_refused() {
    let place = Workplace::with_shapes();
    let whole = place.bytes("shapes/down/005.png");
    fs::write(place.path("shapes/down/005.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(place.path("shapes/plain/zero.jpg"), b"").unwrap();
    let finished = place.run(TRAIN).expect_code(0);
    assert!(finished.out.contains("2 images that cannot be read are left out"), "{finished:#?}");
    assert!(finished.err.contains("005.png") && finished.err.contains("zero.jpg"), "{finished:#?}");
    place.run(&format!("{TRAIN} --strict")).expect_error(&["2 of 121 images cannot be read", "005.png"]);
}

#[test]
fn folders_without_two_classes_of_images_are_refused() {
    let place = Workplace::with_shapes();
    place.run("train nowhere --device cpu").expect_error(&["nowhere does not exist"]);
    fs::create_dir(place.path("empty")).unwrap();
    place.run("train empty --device cpu").expect_error(&["holds no data set"]);
    fs::create_dir(place.path("shapes/new")).unwrap();
    place.run(TRAIN).expect_error(&["class folder", "new", "has no image"]);
    for class in ["new", "down", "plain"] {
        fs::remove_dir_all(place.path("shapes").join(class)).unwrap();
    }
    place.run(TRAIN).expect_error(&["only the class \"across\""]);
}

#[test]
fn damaged_binary_data_is_refused() {
    let place = Workplace::new();
    fs::create_dir(place.path("idx")).unwrap();
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
        fs::write(place.path("idx").join(name), b"\0\0\x08\x07\0\0\0\x01").unwrap();
    }
    place.run("train idx --device cpu").expect_error(&["train-", "starts with 0x00000807"]);
    fs::create_dir(place.path("cifar")).unwrap();
    for number in 1..=5 {
        fs::write(place.path(&format!("cifar/data_batch_{number}.bin")), vec![0; 3073 * 2 - 1]).unwrap();
    }
    place.run("train cifar --device cpu").expect_error(&["data_batch_1.bin", "6145 bytes"]);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_where_it_appeared() {
    let place = Workplace::with_shapes();
    let finished = place.run("train shapes --device cpu --batch-size 16 --optimizer sgd --lr 1e30 --out run");
    finished.expect_error(&["the loss became", "at step 2 (epoch 1)", "layer ", "--lr"]);
}

#[test]
fn a_download_that_fails_names_its_homes() {
    let place = Workplace::new();
    let finished = place.run("download mnist --base-url http://127.0.0.1:1/ --to there");
    finished.expect_error(&["cannot download train-images", "http://127.0.0.1:1/", "there"]);
    assert!(place.run("download imagenet").expect_code(2).err.contains("fashion-mnist"));
}
