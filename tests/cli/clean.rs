//! What is wrong with data, as a person asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use gabor::data::{Dataset, OpenOptions, bundled};
use image::{DynamicImage, GrayImage, Luma, codecs::jpeg::JpegEncoder, imageops::FilterType};
use serde_json::Value;

use crate::support::{Workplace, shapes};

/// The findings of a kind: image and other, by their file names.
fn found(result: &Value, kind: &str) -> Vec<(String, String)> {
    let all = result["findings"].as_array().unwrap().iter().filter(|finding| finding["kind"] == kind);
    let name = |value: &Value| value.as_str().unwrap().rsplit('/').next().unwrap().to_string();
    all.map(|finding| (name(&finding["image"]), name(&finding["other"]))).collect()
}

fn digit(set: &Dataset, index: usize) -> DynamicImage {
    GrayImage::from_raw(28, 28, set.original(index).unwrap().0).unwrap().into()
}

/// Writes variants of an image, each of which is a copy of it.
fn write_copies(image: &DynamicImage, folder: &Path) -> Vec<&'static str> {
    image.save(folder.join("exact.png")).unwrap();
    let jpeg = fs::File::create(folder.join("encoded.jpg")).unwrap();
    image.write_with_encoder(JpegEncoder::new_with_quality(jpeg, 60)).unwrap();
    image.resize_exact(21, 21, FilterType::Triangle).save(folder.join("smaller.png")).unwrap();
    image.resize_exact(42, 42, FilterType::Triangle).save(folder.join("larger.png")).unwrap();
    image.brighten(12).save(folder.join("brighter.png")).unwrap();
    image.crop_imm(1, 0, 27, 28).save(folder.join("cut-left.png")).unwrap();
    image.crop_imm(1, 1, 26, 26).save(folder.join("cut-around.png")).unwrap();
    vec!["brighter.png", "cut-around.png", "cut-left.png", "encoded.jpg", "exact.png", "larger.png", "smaller.png"]
}

#[test]
fn planted_copies_and_leaks_are_all_found_and_nothing_else() {
    let place = Workplace::new();
    let digits = bundled(&OpenOptions::default()).unwrap().train;
    for (number, part) in ["train", "val", "test"].into_iter().enumerate() {
        for class in 0..10u32 {
            let folder = place.path(&format!("digits/{part}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            let of_class = (0..digits.len()).filter(|&index| digits.labels().classes().unwrap()[index] == class);
            for index in of_class.skip(20 * number).take(20) {
                digit(&digits, index).save(folder.join(format!("{index}.png"))).unwrap();
            }
        }
    }
    let first = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(place.path(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.swap_remove(0)
    };
    let (of_train, of_one) = (first("digits/train/3"), first("digits/train/1"));
    let planted = write_copies(&image::open(&of_train).unwrap(), &place.path("digits/train/5"));
    let leaked = write_copies(&image::open(&of_one).unwrap(), &place.path("digits/test/1"));

    let result = place.json("clean digits --only leaks,duplicates,near-duplicates --out found --json");
    let pairs = |names: &[&str], of: &Path| -> BTreeSet<(String, String)> {
        let of = of.file_name().unwrap().to_str().unwrap();
        names.iter().map(|name| (name.to_string(), of.to_string())).collect()
    };
    let near: Vec<&str> = planted.iter().copied().filter(|name| *name != "exact.png").collect();
    let set = |kind| found(&result, kind).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set("duplicates"), pairs(&["exact.png"], &of_train));
    assert_eq!(set("near-duplicates"), pairs(&near, &of_train));
    assert_eq!(set("leaks"), pairs(&leaked, &of_one));
    assert_eq!(result["counts"]["leaks"], leaked.len());

    // Where leaks are not asked for, a copy in another part is a copy.
    let result = place.json("clean digits --only duplicates --out others --json");
    assert_eq!(found(&result, "duplicates").len(), 2);
}

#[test]
fn flawed_images_are_listed_with_pictures_and_nothing_is_replaced() {
    let place = Workplace::with_shapes();
    let plain = image::open(place.path("shapes/across/001.png")).unwrap();
    let put = |image: DynamicImage, name: &str| image.save(place.path("shapes/plain").join(name)).unwrap();
    let level = |level: u8| -> DynamicImage { GrayImage::from_pixel(12, 12, Luma([level])).into() };
    let noisy = |base: u8| -> DynamicImage {
        GrayImage::from_fn(12, 12, |x, y| Luma([base + (x * 7 + y * y * 5) as u8 % 40])).into()
    };
    put(noisy(5), "dark.png");
    put(noisy(205), "bright.png");
    put(level(120), "flat.png");
    put(GrayImage::from_fn(12, 12, |x, _| Luma([60 + 12 * x as u8])).into(), "blurred.png");
    put(plain.resize_exact(2, 2, FilterType::Nearest), "tiny.png");
    put(plain.resize_exact(50, 12, FilterType::Nearest), "wide.png");
    fs::write(place.path("shapes/plain/broken.png"), "no image").unwrap();
    let kinds = "unreadable,dark,overexposed,low-contrast,blurred,tiny,odd-proportions";
    let result = place.json(&format!("clean shapes --only {kinds} --json"));
    let expected = BTreeMap::from([
        ("unreadable", "broken.png"),
        ("dark", "dark.png"),
        ("overexposed", "bright.png"),
        ("low-contrast", "flat.png"),
        ("blurred", "blurred.png"),
        ("tiny", "tiny.png"),
        ("odd-proportions", "wide.png"),
    ]);
    for (kind, image) in expected {
        let images: Vec<String> = found(&result, kind).into_iter().map(|(image, _)| image).collect();
        assert_eq!(images, [image], "{kind} in {result}");
    }
    let list = place.read("clean/list.csv");
    assert!(list.starts_with("kind,image,part,class,other,score\nunreadable,"), "{list}");
    assert!(list.contains("tiny.png,") && list.lines().any(|row| row.ends_with(",plain,,2")), "{list}");
    let sheet = place.read("clean/sheet.html");
    for words in
        ["<h2 id=\"tiny-heading\">tiny (1)</h2>", "tiny.png\"", "data:image/png;base64,", "width by the height"]
    {
        assert!(sheet.contains(words), "no {words} in {sheet}");
    }

    let shown = place.run("clean shapes --only dark,tiny --smallest 1").expect_code(0).out;
    assert!(shown.contains("dark") && shown.contains("clean-2/list.csv") && !shown.contains("tiny.png"), "{shown}");
    place.run("clean shapes --only dark --out clean").expect_error(&["clean/list.csv is there already", "--out"]);
    assert_eq!(place.read("clean/list.csv"), list);
}

/// The training images of the bundled part of MNIST with 3 of 100 labels drawn anew; returns which changed, by their names.
fn noisy_digits(folder: &Path) -> BTreeSet<String> {
    fs::create_dir(folder).unwrap();
    let mnist = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist");
    let images = "train-images-idx3-ubyte.gz";
    fs::copy(mnist.join(images), folder.join(images)).unwrap();
    let file = fs::File::open(mnist.join("train-labels-idx1-ubyte.gz")).unwrap();
    let mut labels = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut labels).unwrap();
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut changed = BTreeSet::new();
    let labels_in = 8;
    let mut drawn = BTreeSet::new();
    while drawn.len() < 300 {
        let index = draw(labels.len() - labels_in);
        if !drawn.insert(index) {
            continue;
        }
        let label = draw(10) as u8;
        if labels[labels_in + index] != label {
            labels[labels_in + index] = label;
            changed.insert(format!("#{index}"));
        }
    }
    let mut file = GzEncoder::new(Vec::new(), Compression::fast());
    file.write_all(&labels).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte.gz"), file.finish().unwrap()).unwrap();
    changed
}

#[test]
fn most_labels_that_were_changed_are_among_the_first_of_the_list() {
    let place = Workplace::new();
    let changed = noisy_digits(&place.path("noisy"));
    // The network and the settings are those of a run, here of one that is trained fast.
    place
        .run(
            "train noisy --model lenet5 --augment none --batch-size 16 --lr 0.002 --max-steps 1 --device cpu --out run",
        )
        .expect_code(0);
    let result = place.json("clean noisy --run run --only labels --folds 4 --epochs 3 --json");
    let all = found(&result, "labels");
    let number = |name: &String| name[name.rfind('#').unwrap()..].to_string();
    let first: BTreeSet<String> = all.iter().take(300).map(|(image, _)| number(image)).collect();
    let caught = first.intersection(&changed).count();
    assert!(100 * caught >= 85 * changed.len(), "{caught} of {} among {}", changed.len(), all.len());
    assert!(all.len() < 500, "{}", all.len());
}

#[test]
fn the_networks_of_a_run_of_folds_are_asked() {
    let place = Workplace::with_shapes();
    let train = "train shapes --device cpu --batch-size 16 --lr 0.003 --epochs 6";
    let moved =
        [("across", "down", "003"), ("across", "down", "017"), ("down", "across", "004"), ("down", "across", "030")];
    for (from, to, name) in moved {
        let [from, to] = [format!("{from}/{name}.png"), format!("{to}/{name}-moved.png")];
        fs::rename(place.path("shapes").join(from), place.path("shapes").join(to)).unwrap();
    }
    place.run(&format!("{train} --folds 3 --out folds")).expect_code(0);
    let asked = place.run("clean --run folds --only labels,outliers --json").expect_code(0);
    assert!(!asked.err.contains("training without"), "{asked:#?}");
    let result = asked.json();
    assert_eq!(result["images"], 120);
    let labels: BTreeSet<(String, String)> = found(&result, "labels").into_iter().collect();
    let expected = moved.map(|(from, _, name)| (format!("{name}-moved.png"), from.to_string()));
    let caught = labels.intersection(&expected.into()).count();
    assert!(caught >= 2 && labels.len() <= caught + 2, "{labels:?}");

    // The settings of another run train networks of its kind, and outliers alone take its own one.
    place.run(&format!("{train} --out run")).expect_code(0);
    let trained = place.run("clean --run run --only labels --folds 2 --epochs 1").expect_code(0);
    assert!(trained.out.contains("training without fold 2 of 2") && trained.out.contains("epoch 1/1"), "{trained:#?}");
    let asked = place.run("clean --run run --only outliers").expect_code(0);
    assert!(!asked.out.contains("training without"), "{asked:#?}");

    shapes(&place.path("others"), 6);
    fs::rename(place.path("others/plain"), place.path("others/dotted")).unwrap();
    let error = place.run("clean others --run run --only labels --out none");
    error.expect_error(&["run/best.safetensors tells across, down, plain apart", "across, dotted, down", "--run"]);
    assert!(!place.path("none").exists());
}

#[test]
fn what_cannot_be_told_is_said_and_the_rest_goes_on() {
    let place = Workplace::with_shapes();
    for number in 2..40 {
        fs::remove_file(place.path(&format!("shapes/plain/{number:03}.png"))).unwrap();
    }
    fs::copy(place.path("shapes/down/000.png"), place.path("shapes/down/again.png")).unwrap();
    let result = place.json("clean shapes --only labels,leaks,duplicates --folds 3 --epochs 1 --device cpu --json");
    let note = result["notes"][0].as_str().unwrap();
    assert!(note.contains("fewer images than the 3 folds") && note.ends_with("plain (2)"), "{note}");
    assert_eq!(found(&result, "leaks").len() + found(&result, "duplicates").len(), 1);

    let mut rows = "path,tags\n".to_string();
    (0..40).for_each(|number| rows += &format!("across/{number:03}.png,across|{}\n", ["a", "b"][number % 2]));
    fs::write(place.path("labels.csv"), rows).unwrap();
    let several = "clean shapes --labels labels.csv --folds 2 --epochs 1 --device cpu --json";
    let result = place.json(&format!("{several} --only labels,outliers,dark"));
    assert!(result["notes"][0].as_str().unwrap().contains("one class each"), "{result}");

    fs::create_dir(place.path("empty")).unwrap();
    place.run("clean empty").expect_error(&["empty holds no data set", "it is empty"]);
    assert!(!place.path("clean-3").exists());
    place.run("clean shapes --fold 2 --folds 3").expect_error(&["--fold is for gabor train"]);
    place.run("clean shapes --only everything").expect_code(2);
    place.run("clean shapes --run nowhere").expect_error(&["nowhere does not exist"]);
}
