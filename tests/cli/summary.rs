//! A model layer by layer as a person reads it.

use crate::support::Workplace;

#[test]
fn a_model_is_shown_layer_by_layer() {
    let place = Workplace::with_shapes();
    let shown = place.run("summary lenet5 --image-size 28 --channels 1").expect_code(0).out;
    for words in ["layer", "conv1", "28x28x1", "parameters", "GFLOP"] {
        assert!(shown.contains(words), "no {words} in {shown}");
    }
    let named = place.json("summary seed-cnn --image-size 12 --channels 1 --classes 3 --json");
    place.run("train shapes --device cpu --batch-size 16 --max-steps 1 --out run").expect_code(0);
    for run in ["run", "run/best.safetensors"] {
        assert_eq!(place.json(&format!("summary {run} --json")), named);
    }
    let layers = named["layers"].as_array().unwrap();
    let sum: u64 = layers.iter().map(|layer| layer["trainable"].as_u64().unwrap()).sum();
    assert_eq!(named["trainable"], sum);
    // The names are those that --freeze takes.
    let freeze = format!("--freeze {}.*", layers[0]["name"].as_str().unwrap());
    place.run(&format!("train shapes --device cpu --batch-size 16 --max-steps 1 {freeze}")).expect_code(0);

    place.run("summary alexnet").expect_error(&["alexnet is no run folder", "seed-cnn, lenet5"]);
    place.run("summary run --classes 4").expect_error(&["run says its sizes itself"]);
    place.run("summary resnet18 --image-size 0").expect_code(2);
}
