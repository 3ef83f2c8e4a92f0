//! What a trained network looks at, as a person asks for it.

use std::{fs, path::Path};

use image::{GenericImageView, GrayImage, Luma};
use serde_json::Value;

use crate::support::Workplace;

fn trained() -> Workplace {
    let place = Workplace::with_shapes();
    place.run("train shapes --device cpu --batch-size 16 --lr 0.003 --epochs 8 --out run").expect_code(0);
    place
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The size of a picture, which must be one.
fn size(place: &Workplace, path: &Value) -> (u32, u32) {
    image::open(place.path(path.as_str().unwrap())).unwrap().dimensions()
}

#[test]
fn each_image_has_its_pictures_and_a_page_holds_all() {
    let place = trained();
    // Wider than it is high, and of another folder but the same name.
    fs::create_dir(place.path("wide")).unwrap();
    GrayImage::from_fn(50, 20, |x, _| Luma([if x / 4 % 2 == 0 { 60 } else { 190 }]))
        .save(place.path("wide/001.png"))
        .unwrap();
    let result = place.json("explain run shapes/down/001.png wide/001.png --layers all --device cpu --json");
    assert_eq!((&result["page"], &result["left_out"]), (&"run/explain/explain.html".into(), &Value::Array(Vec::new())));
    let images = list(&result["images"]);
    assert_eq!(images.len(), 2);
    for (image, (stem, expected)) in images.iter().zip([("001", (228, 228)), ("001-2", (250, 100))]) {
        for method in ["gradcam", "occlusion"] {
            assert_eq!(image[method]["picture"], format!("run/explain/{stem}-{method}.png"));
            assert_eq!(size(&place, &image[method]["picture"]), expected, "{image}");
        }
        let features = list(&image["features"]);
        let layers: Vec<&str> = features.iter().map(|of| of["layer"].as_str().unwrap()).collect();
        assert_eq!(layers, ["conv1", "pool1", "conv2"]);
        for of in features {
            let most = of["channels"].as_u64().unwrap().min(16);
            assert_eq!(list(&of["shown"]).len() as u64, most);
            assert!(size(&place, &of["picture"]).0 > 64);
        }
        assert_eq!((list(&image["predictions"]).len(), list(&image["nearest"]).len()), (3, 8));
        assert_eq!(image["class"], image["predictions"][0]["class"]);
    }
    assert_eq!(images[0]["class"], "down");
    assert!(images[0]["occlusion"]["largest_drop"].as_f64().unwrap() > 0.0);
    // The shapes: this one is among the training images, and like no other as much.
    let nearest = list(&images[0]["nearest"]);
    assert!(nearest.is_sorted_by(|a, b| a["similarity"].as_f64() >= b["similarity"].as_f64()), "{nearest:?}");
    assert!(size(&place, &result["filters"]).0 > 64);

    let page = place.read("run/explain/explain.html");
    let pictures = 2 * (3 + 3 + 8) + 2;
    assert_eq!(page.matches("data:image/png;base64,").count(), pictures);
    assert_eq!(page.matches("<img ").count(), pictures);
    assert_eq!(page.matches(" alt=\"").count(), pictures);
    assert!(page.contains("Grad-CAM of down over shapes/down/001.png") && !page.contains("src=\"http"), "{page}");
}

#[test]
fn the_nearest_image_of_a_training_image_is_itself() {
    let place = trained();
    let training = place.json("eval run --split train --device cpu --csv training.csv --json");
    assert_eq!(training["images"], 84);
    let table = place.read("training.csv");
    let own = table.lines().nth(5).unwrap().split(',').next().unwrap();
    let args = format!("explain run {own} --method nearest --nearest 3 --device cpu --out near --json");
    let result = place.json(&args);
    let nearest = list(&result["images"][0]["nearest"]);
    assert_eq!(
        (nearest.len(), &nearest[0]["image"], nearest[0]["class"].as_str()),
        (3, &own.into(), own.split('/').rev().nth(1))
    );
    assert!((nearest[0]["similarity"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{nearest:?}");
    assert!(result["images"][0]["gradcam"].is_null() && result["filters"].is_null());
    let files: Vec<_> = fs::read_dir(place.path("near")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["explain.html"]);
}

#[test]
fn class_layer_and_patch_can_be_chosen() {
    let place = trained();
    let explain = "explain run shapes/down/001.png --method gradcam,occlusion,features --device cpu --json";
    let usual = place.json(explain);
    assert_eq!(usual["images"][0]["gradcam"]["layer"], "conv2");
    let layers: Vec<&Value> = list(&usual["images"][0]["features"]).iter().map(|of| &of["layer"]).collect();
    assert_eq!(layers, ["conv1", "pool1", "conv2"]);
    let chosen = format!("{explain} --class plain --layer conv1 --layers conv? --patch 4 --stride 1");
    let chosen = place.json(&chosen);
    let image = &chosen["images"][0];
    assert_eq!((&image["class"], &image["gradcam"]["layer"]), (&"plain".into(), &"conv1".into()));
    assert_eq!((&image["occlusion"]["patch"], &image["occlusion"]["stride"]), (&4.into(), &1.into()));
    let layers: Vec<&str> = list(&image["features"]).iter().map(|of| of["layer"].as_str().unwrap()).collect();
    assert_eq!(layers, ["conv1", "conv2"]);
    assert!(image["probability"].as_f64() < usual["images"][0]["probability"].as_f64());
    let text = place.run("explain run shapes/down/001.png --method gradcam --device cpu").expect_code(0).out;
    assert!(text.starts_with("shapes/down/001.png\n") && text.contains("%  down\n"), "{text}");
    assert!(text.contains("001-gradcam.png\n") && text.ends_with("page  run/explain/explain.html\n"), "{text}");
}

#[test]
fn what_is_not_there_is_left_out_and_told() {
    let place = trained();
    fs::rename(place.path("shapes"), place.path("moved")).unwrap();
    let finished = place.run("explain run moved/down/001.png --device cpu --json").expect_code(0);
    assert!(finished.err.contains("no nearest images: the training images cannot be read"), "{finished:#?}");
    let result = finished.json();
    assert_eq!((&result["left_out"][0]["method"], list(&result["left_out"]).len()), (&"nearest".into(), 1));
    assert!(result["images"][0]["gradcam"]["largest"].as_f64().is_some());
    assert!(place.read("run/explain/explain.html").contains("nearest images: the training images cannot be read"));
    // Asked for by its name it is an error, and the rest is there all the same.
    let asked = "explain run moved/down/001.png --method nearest,filters --device cpu --out asked";
    place.run(asked).expect_code(1);
    assert!(place.path("asked/filters.png").is_file());

    // A network that sees no places, and has no embeddings of images.
    let layers = "name = \"flat\"\n[[layers]]\ntype = \"flatten\"\n[[layers]]\ntype = \"dense\"\nunits = \"classes\"\n";
    fs::write(place.path("flat.toml"), layers).unwrap();
    place.run("train moved --model flat.toml --device cpu --max-steps 2 --out flat").expect_code(0);
    let flat = place.json("explain flat moved/down/001.png --device cpu --json");
    let left: Vec<&str> = list(&flat["left_out"]).iter().map(|left| left["method"].as_str().unwrap()).collect();
    assert_eq!(left, ["gradcam", "features", "filters"]);
    assert!(flat["images"][0]["occlusion"]["picture"].is_string());
}

#[test]
fn bad_input_is_told_and_nothing_is_replaced() {
    let place = trained();
    fs::write(place.path("broken.png"), "no image").unwrap();
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/filters.png"), "mine").unwrap();
    let image = "shapes/down/001.png";
    for (args, words) in [
        ("run shapes".to_string(), &["shapes is a folder", "shapes/*"][..]),
        ("run broken.png".into(), &["broken.png"]),
        ("run none.png".into(), &["none.png"]),
        (format!("run {image} --class donw"), &["no class donw (did you mean down?)", "across, down, plain"]),
        (
            format!("run {image} --layer cnv2"),
            &["no layer is called cnv2", "did you mean conv2?", "the layers are conv1, pool1, conv2"],
        ),
        (format!("run {image} --layers conv1,pol*"), &["no layer is called pol*"]),
        (format!("run {image} --patch 13"), &["`patch` (--patch) of 13", "12x12"]),
        (format!("run {image} --patch 4 --stride 5"), &["`stride` (--stride) of 5"]),
        (format!("nowhere {image}"), &["nowhere does not exist"]),
        (format!("run {image} --out mine"), &["mine/filters.png is there already", "another --out"]),
    ] {
        place.run(&format!("explain {args} --device cpu")).expect_error(words);
    }
    assert!(!Path::new(&place.path("run/explain")).exists());
    assert_eq!(place.read("mine/filters.png"), "mine");
    place.run(&format!("explain run {image} --method gradcam,magic")).expect_code(2);
    place.run("explain run").expect_code(2);
}
