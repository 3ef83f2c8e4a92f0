//! Files that were damaged or tampered with, and others at work beside a run.

use std::{collections::HashMap, fs};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::{Workplace, wait_until};

const TRAIN: &str = "train shapes --device cpu --batch-size 16";

/// A place with a finished run in the folder `run`.
fn with_run() -> Workplace {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --max-steps 4 --out run")).expect_code(0);
    place
}

/// Writes the best weights of the run anew, with what `change` makes of their metadata and of the tensors' bytes.
fn tamper(place: &Workplace, change: impl Fn(&mut Value, &mut HashMap<String, Vec<u8>>)) {
    let bytes = place.bytes("run/best.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut card: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["gabor"]).unwrap();
    let mut contents: HashMap<String, Vec<u8>> =
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    change(&mut card, &mut contents);
    let views = file.tensors().into_iter().map(|(name, view)| {
        let content = &contents[&name];
        let view = safetensors::tensor::TensorView::new(view.dtype(), view.shape().to_vec(), content).unwrap();
        (name, view)
    });
    let metadata = HashMap::from([("gabor".to_string(), card.to_string())]);
    fs::write(place.path("tampered.safetensors"), safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

#[test]
fn weights_that_cannot_be_are_named() {
    let place = with_run();
    let refused = |words: &[&str]| {
        for command in ["eval tampered.safetensors shapes", "predict tampered.safetensors shapes/down/001.png"] {
            place.run(&format!("{command} --device cpu")).expect_error(&[&["tampered.safetensors"], words].concat());
        }
    };
    let set = |path: &'static str, value: Value| {
        move |card: &mut Value, _: &mut HashMap<String, Vec<u8>>| *card.pointer_mut(path).unwrap() = value.clone()
    };
    for input in [json!([0, 12, 1]), json!([9_000_000_000_000u64, 12, 1]), json!([12, 12, 7])] {
        tamper(&place, set("/input", input));
        refused(&["input"]);
    }
    tamper(&place, set("/input", json!([40, 40, 1])));
    refused(&["tensor dense1.weight"]);
    tamper(&place, set("/normalisation/mean", json!([0.1, 0.2])));
    refused(&["2 means"]);
    for std in [json!([0.0]), json!([-1.0])] {
        tamper(&place, set("/normalisation/std", std));
        refused(&["above 0"]);
    }
    tamper(&place, set("/classes", json!([])));
    refused(&["0 classes"]);
    for value in [f32::NAN, f32::INFINITY] {
        tamper(&place, |_, tensors| {
            tensors.get_mut("conv1.weight").unwrap()[8..12].copy_from_slice(&value.to_le_bytes());
        });
        refused(&["element 2 of tensor conv1.weight"]);
    }
}

#[test]
fn numbers_of_a_configuration_are_bounded_before_they_size_anything() {
    let place = with_run();
    let config = place.read("run/config.toml");
    for (field, value) in [
        ("batch_size = 16", "batch_size = 9223372036854775807"),
        ("epochs = 20", "epochs = 9223372036854775807"),
        ("checkpoint_every = 60.0", "checkpoint_every = 1e300"),
    ] {
        assert!(config.contains(field), "{config}");
        fs::write(place.path("run/config.toml"), config.replace(field, value)).unwrap();
        let name = field.split(' ').next().unwrap();
        place.run("train --resume run").expect_error(&["config.toml", name]);
        place.run("eval run --device cpu").expect_error(&["config.toml", name]);
    }
}

#[test]
fn a_name_of_a_class_cannot_steer_the_terminal() {
    let place = Workplace::with_shapes();
    fs::rename(place.path("shapes/down"), place.path("shapes/down\u{1b}[31m")).unwrap();
    place.run(&format!("{TRAIN} --max-steps 4 --out run")).expect_code(0);
    for command in ["eval run --device cpu", "predict run shapes/plain/001.png --device cpu"] {
        let finished = place.run(command).expect_code(0);
        assert!(!finished.out.contains('\u{1b}') && finished.out.contains("down\\u{1b}[31m"), "{finished:#?}");
    }
}

#[test]
fn a_run_that_is_going_on_is_left_alone() {
    let place = Workplace::with_shapes();
    let mut child = place.spawn(&format!("{TRAIN} --epochs 1000 --checkpoint-every 0 --out run"));
    wait_until(|| place.path("run/resume.safetensors").is_file());
    let holder = format!("process {}", child.id());
    place.run("train --resume run").expect_error(&["the run in run is going on in", &holder]);
    place.run(&format!("{TRAIN} --out run")).expect_error(&["the run in run is going on in", &holder]);
    place.run("predict run shapes/down/001.png --device cpu").expect_code(0);
    child.kill().unwrap();
    child.wait().unwrap();
    // What a process leaves that was killed while it wrote.
    fs::write(place.path("run/last.safetensors.part"), "half").unwrap();
    let config = place.read("run/config.toml");
    place.run("train --resume run --max-steps 1 --epochs 1").expect_code(0);
    assert_eq!(place.read("run/config.toml"), config, "nothing was trained: the run is what it was");
    assert!(!place.path("run/last.safetensors.part").exists());
}

#[test]
fn a_run_without_a_checkpoint_is_begun_anew_in_its_folder() {
    let place = with_run();
    for file in ["resume", "last", "best"] {
        fs::remove_file(place.path(&format!("run/{file}.safetensors"))).unwrap();
    }
    let answer = place.run("train --resume run");
    answer.expect_error(&["before its first checkpoint", "gabor train --config run/config.toml --out run"]);
    place.run("train --config run/config.toml --out run").expect_code(0);
    assert!(place.path("run/resume.safetensors").is_file());
}

#[test]
fn files_that_are_no_run_s_are_not_replaced() {
    let place = with_run();
    for name in ["best.safetensors", "best-9.safetensors", "metrics.csv", "classes.txt", "config.toml"] {
        let own = place.path("own").join(name);
        fs::create_dir_all(place.path("own")).unwrap();
        fs::write(&own, "mine").unwrap();
        place.run(&format!("{TRAIN} --max-steps 1 --out own")).expect_error(&["own holds", name, "another --out"]);
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        fs::remove_file(own).unwrap();
    }
    fs::write(place.path("own/notes.txt"), "mine").unwrap();
    place.run(&format!("{TRAIN} --max-steps 1 --out own")).expect_code(0);
}

#[test]
fn data_that_has_changed_is_told_and_goes_on_where_that_is_allowed() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --epochs 2 --max-steps 8 --out run")).expect_code(0);
    // One image more, too few for another batch; an image of another size; all as it was, elsewhere.
    let extra = place.path("shapes/plain/999.png");
    fs::copy(place.path("shapes/plain/000.png"), &extra).unwrap();
    let more = place.run("train --resume run --max-steps 9");
    let more = more.expect_error(&["the data has changed since the run in run began", "--allow-changed-data"]);
    assert!(more.err.contains("84 training images then and 85 now"), "{more:#?}");
    let config = place.read("run/config.toml");
    assert!(!config.contains("max_steps = 9"), "{config}");
    place.run("train --resume run --max-steps 9 --allow-changed-data").expect_code(0);
    place.run("train --resume run --max-steps 10").expect_code(0);
    fs::remove_file(extra).unwrap();
    place.run("train --resume run --max-steps 11").expect_error(&["85 training images then and 84 now"]);
    place.run("train --resume run --max-steps 11 --allow-changed-data").expect_code(0);

    let image = place.path("shapes/plain/003.png");
    let mut bytes = fs::read(&image).unwrap();
    bytes.extend([0; 7]);
    fs::write(&image, &bytes).unwrap();
    place.run("train --resume run --max-steps 12").expect_error(&["images, as many as then"]);
    fs::write(&image, &bytes[..bytes.len() - 7]).unwrap();
    fs::rename(place.path("shapes"), place.path("moved")).unwrap();
    fs::write(place.path("run/config.toml"), place.read("run/config.toml").replace("/shapes\"", "/moved\"")).unwrap();
    place.run("train --resume run --max-steps 12").expect_code(0);
    place.run("train moved --allow-changed-data").expect_error(&["--allow-changed-data is for", "--resume"]);
}

#[test]
fn files_of_a_run_that_are_missing_or_garbled_are_told() {
    let place = with_run();
    fs::remove_file(place.path("run/best.safetensors")).unwrap();
    place.run("train --resume run --max-steps 6").expect_error(&[
        "run/best.safetensors is missing",
        "epoch 1",
        "copy run/last",
    ]);
    fs::write(place.path("run/best.safetensors"), &place.bytes("run/last.safetensors")[..1000]).unwrap();
    place.run("train --resume run --max-steps 6").expect_error(&[
        "the weights of epoch 1, which was the best, cannot be read",
        "copy run/last",
        "is not a complete safetensors file",
    ]);
    fs::copy(place.path("run/last.safetensors"), place.path("run/best.safetensors")).unwrap();
    fs::write(place.path("run/metrics.csv"), "garbage\nand more\n").unwrap();
    let finished = place.run("train --resume run --max-steps 6").expect_code(0);
    assert!(finished.err.contains("run/metrics.csv is damaged: it is now run/metrics.csv.damaged-1"), "{finished:#?}");
    let metrics = place.read("run/metrics.csv");
    assert!(
        metrics.starts_with("epoch,step,train_loss") && metrics.contains("\n1,6,") && !metrics.contains(",,"),
        "{metrics}"
    );
    fs::write(place.path("run/data.json"), "{").unwrap();
    place.run("train --resume run --max-steps 7").expect_error(&["run/data.json is damaged: remove it"]);
}

#[test]
fn what_is_missing_of_a_run_is_not_made_up() {
    let place = with_run();
    place.run("train --resume run --max-steps 6").expect_code(0);
    let (config, metrics) = (place.read("run/config.toml"), place.bytes("run/metrics.csv"));
    let lines: Vec<&str> = config.lines().collect();
    for kept in [0, 2, lines.len() / 2, lines.len() - 1] {
        fs::write(place.path("run/config.toml"), lines[..kept].join("\n")).unwrap();
        for command in ["train --resume run", "eval run"] {
            place.run(command).expect_error(&["run/config.toml is incomplete"]);
        }
    }
    fs::write(place.path("run/config.toml"), &config).unwrap();
    // Without its last row, or whole, after the only epoch.
    for kept in [metrics.len() / 2, 0] {
        fs::write(place.path("run/metrics.csv"), &metrics[..kept]).unwrap();
        let steps = if kept == 0 { 7 } else { 6 };
        let finished = place.run(&format!("train --resume run --max-steps {steps}")).expect_code(0);
        assert!(finished.err.contains("run/metrics.csv is damaged"), "{finished:#?}");
    }
    fs::rename(place.path("run/best.safetensors"), place.path("best")).unwrap();
    for command in ["eval run", "predict run shapes/plain/000.png", "train shapes --teacher run"] {
        place
            .run(command)
            .expect_error(&["run/best.safetensors is missing, the weights of the best epoch", "run/last"]);
    }
    place.run("eval run --weights last --device cpu").expect_code(0);
    fs::remove_file(place.path("run/resume.safetensors")).unwrap();
    place.run("train --resume run").expect_error(&["run/resume.safetensors is missing", "--pretrained run"]);
    place.run(&format!("{TRAIN} --out run")).expect_error(&["run holds weights of a run", "another --out"]);
    fs::create_dir(place.path("alone")).unwrap();
    fs::rename(place.path("best"), place.path("alone/best.safetensors")).unwrap();
    place.run("eval alone").expect_error(&["no config.toml beside alone/best.safetensors", "give DATA"]);
    place.run("eval alone shapes --device cpu").expect_code(0);
}

#[test]
fn a_run_goes_on_at_its_size_and_tells_its_figure() {
    let place = Workplace::with_shapes();
    let train = "train shapes --device cpu --batch-size 64 --epochs 1";
    let told = place.run(&format!("{train} --validation 0.2 --out run")).expect_code(0).out;
    let best = |told: &str| told.lines().find(|line| line.starts_with("best ")).unwrap().to_string();
    place.run(&format!("{train} --folds 2 --out folds")).expect_code(0);
    let image = image::GrayImage::new(20, 20);
    image.save(place.path("shapes/plain/999.png")).unwrap();
    let again = place.run("train --resume run --allow-changed-data").expect_code(0).out;
    assert!(best(&told).contains("accuracy") && best(&again) == best(&told), "{again}");
    assert!(again.contains("images of 12x12x1"), "{again}");
    fs::remove_dir_all(place.path("folds/fold-2")).unwrap();
    let again = place.run("train --resume folds --allow-changed-data").expect_code(0).out;
    assert!(again.contains("images of 12x12x1"), "{again}");
}

#[test]
fn weights_that_are_no_numbers_are_not_kept() {
    let place = Workplace::with_shapes();
    let train = "train shapes --model seed-cnn --device cpu --optimizer sgd --epochs 3 --lr 1e20 --out run";
    let finished = place.run(train).expect_code(1);
    assert!(finished.err.contains("--lr") && finished.err.contains("not finite"), "{finished:#?}");
    assert!(!place.path("run/best.safetensors").exists(), "{finished:#?}");
}

#[test]
fn a_run_that_cannot_take_a_step_leaves_no_folder() {
    let place = Workplace::with_shapes();
    let layers = "layers = [
        { type = \"conv\", channels = 4, kernel = 3, init = { whitening = 1e-3 }, padding = \"same\" },
        { type = \"conv\", channels = 4, kernel = 3, init = { whitening = 1e-3 } },
        { type = \"flatten\" }, { type = \"dense\", units = \"classes\" }]";
    fs::write(place.path("n.toml"), format!("name = \"n\"\n{layers}")).unwrap();
    let train = "train shapes --device cpu --epochs 1";
    place.run(&format!("{train} --model n.toml --out run")).expect_error(&["only a convolution of the images"]);
    assert!(!place.path("run").exists());
    fs::write(place.path("n.toml"), format!("name = \"n\"\n{}", layers.replace("kernel = 3,", "kernel = 17,")))
        .unwrap();
    let large = format!("{train} --model n.toml --image-size 32 --out run");
    place.run(&large).expect_error(&["17x17x1, which are 289 numbers", "take a smaller kernel"]);
    // One that logged steps stays.
    fs::write(place.path("n.toml"), format!("name = \"n\"\n{}", layers.replace("whitening", "constant"))).unwrap();
    let diverging = format!("{train} --model n.toml --optimizer sgd --lr 1e30 --log-steps --out run");
    place.run(&diverging).expect_error(&["lower"]);
    assert!(place.path("run/steps.csv").is_file());
}

#[cfg(unix)]
#[test]
fn a_pipe_among_the_images_is_left_out() {
    let place = Workplace::with_shapes();
    let made = std::process::Command::new("mkfifo").arg(place.path("shapes/plain/pipe.png")).status().unwrap();
    assert!(made.success());
    let finished = place.run("train shapes --device cpu --max-steps 1 --out run").expect_code(0);
    assert!(finished.err.contains("pipe.png: it is no file"), "{finished:#?}");
    place.run("predict run shapes/plain/pipe.png").expect_error(&["pipe.png", "it is no file"]);
}

#[test]
fn an_image_that_is_lost_during_a_run_is_left_out() {
    let place = Workplace::with_shapes();
    let steps = "--device cpu --batch-size 8 --cache-mib 0 --epochs 40 --checkpoint-every 0";
    let lose = |out: &str, flags: &str| {
        let mut command = place.command(&format!("train shapes {steps} --out {out} {flags}"));
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let child = command.spawn().unwrap();
        wait_until(|| place.path(&format!("{out}/resume.safetensors")).is_file());
        let image = place.path("shapes/plain/003.png");
        let whole = fs::read(&image).unwrap();
        fs::remove_file(&image).unwrap();
        let output = child.wait_with_output().unwrap();
        fs::write(&image, whole).unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = lose("skipping", "");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("an image is left out from now on").count(), 1, "{said}");
    assert!(said.contains("003.png"), "{said}");
    let (code, said) = lose("strict", "--strict");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("003.png") && said.contains("(--resume) from strict"), "{said}");
    place.run("train --resume strict").expect_code(0);
}
