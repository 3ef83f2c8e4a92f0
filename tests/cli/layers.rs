//! Networks of layers that a file lists, and what goes with them.

use crate::support::Workplace;

const SMALL: &str = r#"
name = "small"
layers = [
    { name = "whiten", type = "conv", channels = 8, kernel = 2, init = { whitening = 5e-4 }, activation = "gelu" },
    { type = "conv", channels = 12, kernel = 3, bias = false, init = "dirac" },
    { type = "batch_norm" },
    { type = "activation", function = "gelu" },
    { type = "global_max_pool" },
    { name = "head", type = "dense", units = "classes", init = "fan_in_uniform" },
]
"#;

const TRAIN: &str = "train shapes --model small.toml --device cpu --epochs 4 --batch-size 16 --lr 0.01 --lookahead 5 \
                     --schedule constant --freeze whiten.weight --alternating-flip";

#[test]
fn a_network_from_a_file_is_trained_resumed_and_used_anywhere() {
    let place = Workplace::with_shapes();
    std::fs::write(place.path("small.toml"), SMALL).unwrap();
    place.run(&format!("{TRAIN} --out whole")).expect_code(0);
    place.run(&format!("{TRAIN} --max-steps 12 --out parts")).expect_code(0);
    // The run has all that it needs.
    std::fs::remove_file(place.path("small.toml")).unwrap();
    place.run("train --resume parts --max-steps 1000").expect_code(0);
    assert_eq!(
        std::fs::read(place.path("whole/last.safetensors")).unwrap(),
        std::fs::read(place.path("parts/last.safetensors")).unwrap()
    );
    assert!(place.read("whole/config.toml").contains("whitening"));
    std::fs::copy(place.path("whole/best.safetensors"), place.path("alone.safetensors")).unwrap();
    let plain = place.json("eval whole --split all --device cpu --json");
    let views = place.json("eval whole --split all --device cpu --tta flip-translate --json");
    assert_eq!((&plain["model"], &views["tta"]), (&"small".into(), &"flip-translate".into()));
    assert_ne!(plain["loss"], views["loss"]);
    let alone = place.json("eval alone.safetensors shapes --split all --device cpu --json");
    assert_eq!(alone["loss"], plain["loss"]);
}

#[test]
fn the_file_of_a_run_is_taken_for_its_model() {
    let place = Workplace::with_shapes();
    std::fs::write(place.path("small.toml"), SMALL).unwrap();
    std::fs::write(place.path("run.toml"), format!("[model]{SMALL}[images]\nsplit = \"9:1\"\n")).unwrap();
    std::fs::write(place.path("zoo.toml"), "model = \"lenet5\"\n").unwrap();
    let small = place.json("summary small.toml --json");
    assert_eq!(small["model"], "small");
    assert_eq!(place.json("summary run.toml --json"), small);
    std::fs::create_dir(place.path("configs")).unwrap();
    std::fs::rename(place.path("small.toml"), place.path("configs/small.toml")).unwrap();
    std::fs::write(place.path("configs/run.toml"), "model = \"small.toml\"\n").unwrap();
    let finished =
        place.run("train shapes --config configs/run.toml --device cpu --max-steps 1 --out run").expect_code(0);
    assert!(finished.out.contains("model   small,"), "{finished:#?}");
    assert_eq!(place.json("summary zoo.toml --json"), place.json("summary lenet5 --json"));
}

#[test]
fn a_file_that_is_no_network_is_told() {
    let place = Workplace::with_shapes();
    let refused = |file: &str, text: &str, code: i32, words: &[&str]| {
        std::fs::write(place.path(file), text).unwrap();
        let finished = place.run(&format!("train shapes --device cpu --model {file}")).expect_code(code);
        for word in words {
            assert!(finished.err.contains(word), "no {word:?} in {finished:#?}");
        }
    };
    let typo = SMALL.replace("channels = 12", "chanels = 12");
    refused("typo.toml", &typo, 2, &["typo.toml", "layer conv: unknown field `chanels`"]);
    let deep = SMALL.replace("channels = 12, kernel = 3", "channels = 12, kernel = 30");
    refused("deep.toml", &deep, 1, &["conv", "30"]);
    let wide = SMALL.replace("channels = 8, kernel = 2", "channels = 9, kernel = 2");
    refused("wide.toml", &wide, 1, &["whiten.weight", "9 filters", "8 that whiten"]);
    let finished = place.run("train shapes --model none.toml").expect_code(2);
    assert!(finished.err.contains("cannot read none.toml"), "{finished:#?}");
    std::fs::write(place.path("small.toml"), SMALL).unwrap();
    place.run(&format!("{TRAIN} --ema 0.9")).expect_error(&["--ema", "--lookahead", "take one of them"]);
}

#[test]
fn without_a_model_one_that_suits_the_images_is_taken_and_told() {
    let place = Workplace::with_shapes();
    let finished = place.run("train shapes --device cpu --image-size 40 --max-steps 1 --out run").expect_code(0);
    assert!(finished.out.contains("resnet20") && finished.out.contains("it suits 120 images"), "{}", finished.out);
    assert!(place.read("run/config.toml").contains("model = \"resnet20\""));
}
