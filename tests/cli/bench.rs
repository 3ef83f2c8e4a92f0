use std::fs;

use serde_json::{Value, json};

use crate::support::{Workplace, software_gpu};

fn report(place: &Workplace, name: &str) -> Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn workloads_are_measured_kept_and_compared() {
    let place = Workplace::new();
    let finished = place.run("bench W1 w6 --device cpu --threads 2 --seconds 0 --json new.json").expect_code(0);
    for word in ["train", "grad-weight", "images/s", "GFLOP/s", "of floor", "peak by probe"] {
        assert!(finished.out.contains(word), "no {word:?} in {finished:#?}");
    }
    let new = report(&place, "new.json");
    assert_eq!(new["device"], "CPU, 2 threads");
    assert_eq!(new["threads"], 2);
    assert!(number(&new["peak"]["flop_per_s"]) > 1e8 && number(&new["peak"]["bytes_per_s"]) > 1e8, "{new}");
    if cfg!(target_os = "linux") {
        assert!(number(&new["peak_rss_mib"]) > 10.0, "{new}");
    }
    let results = new["results"].as_array().unwrap();
    let named = |result: &Value| ["workload", "what", "size", "batch", "unit"].map(|key| result[key].clone());
    let expected = [
        json!(["W1", "train", 28, 128, "images/s"]),
        json!(["W6", "forward", 56, 8, "GFLOP/s"]),
        json!(["W6", "grad-input", 56, 8, "GFLOP/s"]),
        json!(["W6", "grad-weight", 56, 8, "GFLOP/s"]),
    ];
    assert_eq!(results.iter().map(|result| json!(named(result))).collect::<Vec<_>>(), expected);
    for result in results {
        assert!(number(&result["value"]) > 0.0 && number(&result["floor_share"]) > 0.0, "{result}");
        assert_eq!(result["first_step_s"].is_null(), result["workload"] == "W6", "{result}");
        assert!(result["ratio"].is_null());
    }

    // An earlier run that was half as fast, and lacks a figure.
    let mut old = new.clone();
    for result in old["results"].as_array_mut().unwrap() {
        result["value"] = json!(number(&result["value"]) / 2.0);
    }
    old["results"].as_array_mut().unwrap().truncate(2);
    fs::write(place.path("old.json"), old.to_string()).unwrap();
    let finished = place.run("bench W6 --device cpu --seconds 0 --baseline old.json --json newer.json").expect_code(0);
    assert!(finished.out.contains("to the baseline, geometric mean of 1"), "{finished:#?}");
    let newer = report(&place, "newer.json");
    let forward = &newer["results"][0];
    let ratio = number(&forward["value"]) / number(&old["results"][1]["value"]);
    assert!((number(&forward["ratio"]) - ratio).abs() < 1e-9 * ratio, "{forward}");
    assert!(newer["results"][1]["ratio"].is_null());
}

#[test]
fn mistakes_of_a_benchmark_are_named_before_it_begins() {
    let place = Workplace::new();
    let finished = place.run("bench W8").expect_code(2);
    assert!(finished.err.contains("W4t") && finished.err.contains("kernels"), "{finished:#?}");
    for flags in ["--seconds -1", "--seconds x", "--threads 0"] {
        let (flag, value) = flags.split_once(' ').unwrap();
        place.run(&format!("bench W6 {flag}={value}")).expect_code(2);
    }
    place.run("bench W6 --device geforce9").expect_error(&["geforce9", "--device cpu"]);
    place.run("bench W6 --baseline none.json").expect_error(&["none.json"]);
    fs::write(place.path("other.json"), "{\"device\": \"CPU\"}").unwrap();
    place.run("bench W6 --baseline other.json").expect_error(&["other.json", "gabor bench --json"]);
    place.run("bench W6 --device cpu --json no/folder.json").expect_error(&["no/folder.json"]);
}

/// A profile's steps, operations and trace agree.
fn check_profile(place: &Workplace, device: &str) {
    let step = format!("lenet5 --image-size 28 --channels 1 --batch-size 4 --device {device}");
    let profile = place.json(&format!("profile {step} --runs 2 --trace trace.json --json"));
    let plan = place.json(&format!("plan {step} --json"));
    let (steps, planned) = (profile["steps"].as_array().unwrap(), plan["steps"].as_array().unwrap());
    assert_eq!(steps.len(), planned.len());
    let sum = |rows: &Value, key: &str| rows.as_array().unwrap().iter().map(|row| number(&row[key])).sum::<f64>();
    for (step, planned) in steps.iter().zip(planned) {
        for key in ["layer", "op", "flop", "bytes"] {
            assert_eq!(step[key], planned[key]);
        }
        assert!((sum(&step["dispatches"], "time_us") - number(&step["time_us"])).abs() < 1e-6);
    }
    let total = number(&profile["total"]["time_us"]);
    assert!(total > 0.0 && number(&profile["total"]["floor_us"]) > 0.0, "{profile}");
    for rows in [&profile["steps"], &profile["ops"]] {
        assert!((sum(rows, "time_us") - total).abs() < 1e-6 * total);
    }

    let trace: Value = report(place, "trace.json");
    let slices: Vec<&Value> =
        trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
    let dispatches = steps.iter().map(|step| step["dispatches"].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(slices.len(), dispatches);
    let traced = slices.iter().map(|slice| number(&slice["dur"])).sum::<f64>();
    assert!((traced - total).abs() < 1e-6 * total);
    assert!(slices.iter().all(|slice| slice["name"].is_string() && number(&slice["ts"]) >= 0.0));
}

#[test]
fn a_step_is_profiled_on_the_cpu() {
    let place = Workplace::new();
    check_profile(&place, "cpu");
    let finished = place.run("profile lenet5 --batch-size 2 --device cpu --mode infer --runs 1").expect_code(0);
    for word in ["conv2d", "native", "of floor", "in all", "peak by probe"] {
        assert!(finished.out.contains(word), "no {word:?} in {finished:#?}");
    }
    for flag in ["--batch-size 0", "--classes 0", "--classes 70000"] {
        let finished = place.run(&format!("profile lenet5 {flag} --device cpu")).expect_code(2);
        assert!(finished.err.contains(flag.split(' ').next().unwrap()), "{finished:#?}");
    }
    place.run("profile lenet5 --batch-size 2 --device cpu --trace no/folder.json").expect_error(&["no/folder.json"]);
}

#[test]
fn a_step_is_profiled_on_a_gpu() {
    let place = Workplace::new();
    if let Some(gpu) = software_gpu(&place) {
        check_profile(&place, &gpu);
    }
}

#[test]
fn reading_images_is_measured() {
    let place = Workplace::with_shapes();
    let result = place.json("bench data shapes --image-size 8x16 --seconds 0 --threads 2 --json");
    assert_eq!((&result["images"], &result["size"], &result["threads"]), (&120.into(), &json!([8, 16, 1]), &2.into()));
    assert!(number(&result["images_per_second"]) > 0.0);
    let shown = place.run("bench data shapes --seconds 0").expect_code(0).out;
    assert!(shown.contains("images/s: 120 images to 12x12, their own size"), "{shown}");
    place.run("bench data nowhere").expect_error(&["nowhere", "does not exist"]);
}
