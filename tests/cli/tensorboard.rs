use std::{env, process::Command};

use serde_json::Value;

use crate::support::{Finished, Workplace};

#[test]
fn tensorboard_reads_its_files() {
    let Ok(python) = env::var("GABOR_TEST_PYTHON") else { return };
    let place = Workplace::with_shapes();
    let train = "train shapes --device cpu --batch-size 16 --max-steps 12 --look-every 5 --tensorboard --out run";
    let trained = place.json(&format!("{train} --json"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/read_events.py");
    let mut command = Command::new(python);
    command.arg(script).arg(place.path("run"));
    let finished = Finished::of(command).expect_code(0);
    let read: Value = serde_json::from_str(&finished.out).unwrap();
    let steps = read["scalars"]["train/loss"].as_array().unwrap();
    assert_eq!(steps.len(), 12, "{read}");
    let accuracy = read["scalars"]["test/accuracy"][0][1].as_f64().unwrap();
    assert!((accuracy - trained["test"]["accuracy"].as_f64().unwrap()).abs() < 1e-6, "{read}");
    let looked: Vec<u64> = read["scalars"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(tag, _)| tag.starts_with("gradient/"))
        .flat_map(|(_, points)| points.as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()))
        .collect();
    assert!(looked.starts_with(&[1, 5, 10, 12]), "{looked:?}");
    assert_eq!(read["scalars"]["class_loss/down"].as_array().unwrap().len(), 4, "{read}");
    let histogram = read["histograms"].as_object().unwrap().values().next().unwrap();
    assert!(histogram["num"].as_f64().unwrap() > 0.0 && histogram["num"] == histogram["buckets"], "{read}");
    let image = read["images"].as_object().unwrap().values().next().unwrap();
    assert!(image["png"] == "89504e47" && image["width"].as_u64().unwrap() > 0, "{read}");
    let curve = &read["pr_curves"]["pr_curve/down"];
    assert_eq!((&curve["shape"], &curve["recall"]), (&serde_json::json!([6, 201]), &1.0.into()), "{read}");
    assert!(read["nodes"].as_array().unwrap().len() > 5, "{read}");
}
