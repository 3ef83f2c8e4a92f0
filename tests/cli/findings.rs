//! What is said of odd data at the start of a run.

use std::fs;

use image::{Rgb, RgbImage};

use crate::support::Workplace;

/// Writes `count` images of 16x16, each of another colour, to `folder`.
fn images(place: &Workplace, folder: &str, count: u32) {
    let path = place.path(folder);
    fs::create_dir_all(&path).unwrap();
    let base = folder.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    for number in 0..count {
        let [r, g, b, _] = base.wrapping_add(number.wrapping_mul(40_503)).to_le_bytes();
        RgbImage::from_pixel(16, 16, Rgb([r, g, b])).save(path.join(format!("{number}.png"))).unwrap();
    }
}

const TRAIN: &str = "train pets --device cpu --max-steps 1 --out run";

#[test]
fn classes_files_and_folders_that_look_wrong_are_said_once() {
    let place = Workplace::new();
    images(&place, "pets/cats/persian", 30);
    images(&place, "pets/cats/siamese", 30);
    images(&place, "pets/dogs", 60);
    images(&place, "pets/emus", 2);
    fs::write(place.path("pets/dogs/1.heic"), "").unwrap();
    let finished = place.run(TRAIN).expect_code(0);
    for words in [
        "too few images to be divided, so that no part but the training part can count on one: emus (2)",
        "training images are uneven: ",
        "`balance_classes` (--balance-classes)",
        "those of cats in persian, siamese",
        "1 HEIC; convert them",
    ] {
        assert_eq!(finished.err.matches(words).count(), 1, "{words:?} in {finished:#?}");
    }
    let finished = place.run(&format!("{TRAIN}-2 --quiet")).expect_code(0);
    assert_eq!(finished.err, "");
}

#[test]
fn a_class_that_a_part_lacks_is_named() {
    let place = Workplace::new();
    for (folder, count) in [("train/cats", 6), ("train/dogs", 6), ("train/emus", 6), ("val/cats", 2), ("val/dogs", 2)] {
        images(&place, &format!("pets/{folder}"), count);
    }
    let finished = place.run(TRAIN).expect_code(0);
    assert!(finished.err.contains("no validation image is of emus"), "{finished:#?}");
}

#[test]
fn images_beyond_the_memory_are_kept_on_disk() {
    let place = Workplace::with_shapes();
    let train = "train shapes --device cpu --epochs 2 --batch-size 16 --augment none --cache-mib 0";
    place.run(&format!("{train} --out plain")).expect_code(0);
    place.run(&format!("{train} --disk-cache scratch/new --out cached")).expect_code(0);
    assert!(place.bytes("plain/last.safetensors") == place.bytes("cached/last.safetensors"));
    assert_eq!(std::fs::read_dir(place.path("scratch/new")).unwrap().count(), 0, "the file goes with the run");
    place.run(&format!("{train} --disk-cache shapes/plain/000.png --out none")).expect_error(&["shapes/plain/000.png"]);
    assert!(!place.path("none").exists());
}
