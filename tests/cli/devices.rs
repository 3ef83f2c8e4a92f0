use crate::support::{Workplace, rows_without_time, software_gpu};

#[test]
fn devices_are_listed_and_software_is_not_taken_by_itself() {
    let result = Workplace::new().json("devices --json");
    let devices = result["devices"].as_array().unwrap();
    assert_eq!(devices[0]["device"], "cpu");
    assert!(devices[0]["threads"].as_u64().unwrap() > 0);
    if devices[1..].iter().all(|device| device["type"] == "software") {
        assert_eq!(result["auto"], "cpu");
    }
    let finished = Workplace::new().run("devices").expect_code(0);
    assert!(finished.out.contains("--device auto takes"), "{finished:#?}");
}

#[test]
fn models_are_listed_with_their_parameters() {
    let place = Workplace::new();
    let result = place.json("models --json");
    let number = |name: &str, of: &str| {
        let models = result["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap()[of].as_u64().unwrap()
    };
    // 3x3x3x32+32, 3x3x32x64+64, 6x6x64x128+128, 128x10+10.
    assert_eq!(number("seed-cnn", "parameters"), 896 + 18_496 + 295_040 + 1_290);
    assert_eq!(number("resnet50", "parameters"), 25_557_032);
    // torchvision counts 4.09e9 multiplications that are added up.
    assert!((8.18e9..8.3e9).contains(&(number("resnet50", "flop") as f64)), "{}", number("resnet50", "flop"));
    assert!(place.run("models").expect_code(0).out.contains("resnet18"));
}

#[test]
fn plans_are_printed() {
    let place = Workplace::new();
    let finished = place.run("plan seed-cnn --image-size 28 --channels 1 --device cpu").expect_code(0);
    assert!(finished.out.contains("conv2d") && finished.out.contains("memory:"), "{finished:#?}");
    let training = place.json("plan seed-cnn --batch-size 8 --device cpu --json");
    let inference = place.json("plan seed-cnn --batch-size 8 --device cpu --mode infer --json");
    let steps = |plan: &serde_json::Value| plan["steps"].as_array().unwrap().len();
    assert!(steps(&inference) < steps(&training));
    assert!(training["memory"]["planned"].as_u64().unwrap() <= training["memory"]["values"].as_u64().unwrap());
}

#[test]
fn passes_are_explained() {
    let place = Workplace::new();
    let text = place.run("plan resnet18 --batch-size 8 --device cpu --passes").expect_code(0).out;
    let line = text.lines().find(|line| line.starts_with("consumer fusion")).unwrap();
    assert!(line.contains("+20 conv2d+batch_norm_statistics") && line.contains("-20 batch_norm_statistics"), "{line}");
    assert!(text.contains("memory planning: "), "{text}");
    let json = place.json("plan resnet18 --batch-size 8 --device cpu --mode infer --json");
    let passes = json["passes"].as_array().unwrap();
    assert!(passes.iter().any(|pass| pass["name"] == "hoisting" && pass["prepared"][1].as_u64() > Some(0)), "{json}");
}

#[test]
fn a_graph_is_saved_and_planned_again() {
    let place = Workplace::new();
    let network = place.json("plan lenet5 --batch-size 8 --device cpu --save-graph lenet.json --json");
    let file = place.json("plan --graph lenet.json --device cpu --json");
    assert_eq!((&file["steps"], &file["memory"]), (&network["steps"], &network["memory"]));
    let graph = std::fs::read_to_string(place.path("lenet.json")).unwrap();
    std::fs::write(place.path("broken.json"), graph.replacen("\"offset\"", "\"offsets\"", 1)).unwrap();
    let error = place.run("plan --graph broken.json --device cpu").expect_code(1).err;
    assert!(error.contains("broken.json is no graph") && error.contains("offset"), "{error}");
    let error = place.run("plan --graph none.json --device cpu").expect_code(1).err;
    assert!(error.contains("cannot read none.json"), "{error}");
    place.run("plan lenet5 --graph lenet.json").expect_code(2);
    place.run("plan").expect_code(2);
}

#[test]
fn completions_and_help() {
    let place = Workplace::new();
    assert!(place.run("completions bash").expect_code(0).out.contains("gabor"));
    let help = place.run("train --help").expect_code(0).out;
    assert!(help.contains("Examples:") && help.contains("--checkpoint-every"), "{help}");
    place.run("").expect_code(2);
}

#[test]
fn a_gpu_trains_as_the_cpu_does_and_goes_on_bit_for_bit() {
    let place = Workplace::with_shapes();
    let Some(gpu) = software_gpu(&place) else { return };
    let train = |device: &str, rest: &str| {
        place
            .run(&format!("train shapes --batch-size 8 --log-steps -q --schedule constant --device {device} {rest}"))
            .expect_code(0);
    };
    train("cpu", "--max-steps 20 --out cpu");
    train(&gpu, "--max-steps 20 --out gpu");
    train(&gpu, "--max-steps 15 --out cut");
    place.run("train --resume cut --max-steps 20").expect_code(0);
    assert!(place.bytes("gpu/resume.safetensors") == place.bytes("cut/resume.safetensors"));
    assert_eq!(rows_without_time(&place.read("gpu/steps.csv")), rows_without_time(&place.read("cut/steps.csv")));

    let losses = |run: &str| -> Vec<f64> {
        let rows = rows_without_time(&place.read(&format!("{run}/steps.csv")));
        rows[1..].iter().map(|row| row[1].parse().unwrap()).collect()
    };
    for (step, (on_cpu, on_gpu)) in losses("cpu").into_iter().zip(losses("gpu")).enumerate() {
        assert!((on_cpu - on_gpu).abs() <= 1e-4 * on_cpu, "step {}: {on_cpu} and {on_gpu}", step + 1);
    }

    let [on_cpu, on_gpu] = ["cpu", &gpu].map(|device| place.json(&format!("eval gpu --json --device {device}")));
    assert_eq!(on_cpu["confusion"], on_gpu["confusion"]);
}

/// The kernels that tuning chose are those of the run, whatever is found later.
#[test]
fn a_resumed_run_takes_the_kernels_that_it_began_with() {
    let place = Workplace::with_shapes();
    let Some(gpu) = software_gpu(&place) else { return };
    let train = format!("train shapes --batch-size 8 --log-steps --schedule constant --device {gpu} --max-steps 6");
    let tuned = place.json(&format!("{train} --tune quick --out tuned --json"));
    assert!(tuned["tuning"]["timed"].as_u64().unwrap() > 0, "{tuned}");
    let again = place.json(&format!("{train} --tune quick --out again --json"));
    assert_eq!(again["tuning"]["timed"], 0, "{again}");
    assert!(place.bytes("tuned/resume.safetensors") == place.bytes("again/resume.safetensors"));

    place.run(&format!("{train} --tune quick --out cut --max-steps 3").replace("--max-steps 6 ", "")).expect_code(0);
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    let resumed = place.json("train --resume cut --max-steps 6 --json");
    assert_eq!(resumed["tuning"]["timed"], 0, "{resumed}");
    assert_eq!(place.read("tuned/kernels.json"), place.read("cut/kernels.json"));
    assert!(place.bytes("tuned/resume.safetensors") == place.bytes("cut/resume.safetensors"));

    std::fs::write(place.path("cut/kernels.json"), "{").unwrap();
    place.run("train --resume cut --max-steps 7").expect_error(&["kernels.json is damaged"]);
}

#[test]
fn a_batch_that_does_not_fit_a_gpu_is_answered_with_one_that_does() {
    let place = Workplace::with_shapes();
    let Some(gpu) = software_gpu(&place) else { return };
    let finished = place.run(&format!("train shapes --device {gpu} --batch-size 1000000"));
    let finished = finished.expect_error(&["a batch of 1000000 images needs", "the largest batch that fits is"]);
    let largest = finished.err.split_once("the largest batch that fits is ").unwrap().1.split(';').next().unwrap();
    let plan = format!("plan seed-cnn --image-size 12 --channels 1 --classes 3 --device {gpu} --batch-size {largest}");
    place.run(&plan).expect_code(0);
}
