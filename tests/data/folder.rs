use std::fs;
use std::path::Path;

use gabor::data::{self, DataError, DecodeLimits, Finding, ImageSize, Normalisation, OpenOptions};
use image::{GrayImage, Luma, Rgb, RgbImage};

/// A picture of one colour, whose red is `value`.
fn save_rgb(path: &Path, width: u32, height: u32, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, Rgb([value, 20, 30])).save(path).unwrap();
}

fn save_grey(path: &Path, width: u32, height: u32, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
}

/// Two classes of ten 8x8 PNG images each; the red of image `i` of class `c` is `100 * c + i`.
fn two_classes() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (class, name) in ["cat", "dog"].into_iter().enumerate() {
        for number in 0..10 {
            save_rgb(&root.path().join(format!("{name}/{number}.png")), 8, 8, (100 * class + number) as u8);
        }
    }
    root
}

fn open(root: &Path) -> data::Splits {
    data::open(root, &OpenOptions::default()).unwrap()
}

fn error(root: &Path) -> DataError {
    data::open(root, &OpenOptions::default()).unwrap_err()
}

fn pixels(set: &data::Dataset, index: usize) -> Vec<u8> {
    let mut pixels = vec![0; set.image_size().bytes()];
    set.read(index, &mut pixels).unwrap();
    pixels
}

#[test]
fn class_folders_are_read_and_divided() {
    let root = two_classes();
    let splits = open(root.path());
    assert_eq!(splits.classes(), ["cat", "dog"]);
    assert_eq!(splits.image_size(), ImageSize::new(8, 8, 3));
    let (val, test) = (splits.val.unwrap(), splits.test.unwrap());
    assert_eq!((splits.train.len(), val.len(), test.len()), (14, 4, 2));
    for set in [&splits.train, &val, &test] {
        for index in 0..set.len() {
            let red = pixels(set, index)[0];
            assert_eq!(u32::from(red / 100), set.labels().classes().unwrap()[index], "{}", set.image_name(index));
            assert!(set.image_name(index).ends_with(&format!("{}.png", red % 100)));
        }
    }
    assert_eq!((splits.skipped.len(), splits.ignored_files), (0, 0));
}

#[test]
fn progress_counts_every_image() {
    let root = two_classes();
    let calls = std::sync::Mutex::new(Vec::new());
    let options = OpenOptions { cache_bytes: 1000, ..OpenOptions::default() };
    data::open_with_progress(root.path(), &options, &|done, total| calls.lock().unwrap().push((done, total))).unwrap();
    let mut calls = calls.into_inner().unwrap();
    calls.sort_unstable();
    assert_eq!(calls, (1..=20).map(|done| (done, 20)).collect::<Vec<_>>());
}

#[test]
fn a_ratio_of_two_has_no_test_part() {
    let root = two_classes();
    let options = OpenOptions { split: "9:1".parse().unwrap(), ..OpenOptions::default() };
    let splits = data::open(root.path(), &options).unwrap();
    assert_eq!((splits.train.len(), splits.val.unwrap().len(), splits.test.is_none()), (18, 2, true));
}

#[test]
fn train_val_and_test_folders_are_taken_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 3), ("val", 2), ("test", 1)] {
        for class in ["a", "b"] {
            for number in 0..count {
                save_grey(&root.path().join(format!("{part}/{class}/{number}.png")), 5, 4, number);
            }
        }
    }
    let splits = open(root.path());
    assert_eq!((splits.train.len(), splits.val.unwrap().len(), splits.test.unwrap().len()), (6, 4, 2));
    assert_eq!(splits.train.image_size(), ImageSize::new(4, 5, 1));

    save_grey(&root.path().join("val/c/0.png"), 5, 4, 0);
    let message = error(root.path()).to_string();
    assert!(message.contains("val") && message.contains("a, b"), "{message}");
}

#[test]
fn a_train_folder_alone_is_divided_and_a_class_may_be_called_train() {
    let root = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        for number in 0..10 {
            save_grey(&root.path().join(format!("train/{class}/{number}.png")), 4, 4, number);
        }
    }
    assert_eq!(open(root.path()).test.unwrap().len(), 2);

    let root = tempfile::tempdir().unwrap();
    for class in ["bus", "train"] {
        for number in 0..10 {
            save_grey(&root.path().join(format!("{class}/{number}.png")), 4, 4, number);
        }
    }
    assert_eq!(open(root.path()).classes(), ["bus", "train"]);
}

#[test]
fn sizes_formats_and_colours_mix() {
    let root = tempfile::tempdir().unwrap();
    for (class, red) in [("a", 10), ("b", 200)] {
        for (number, extension) in ["jpg", "PNG", "webp", "bmp", "gif", "tiff", "jpeg"].into_iter().enumerate() {
            let side = 10 + 7 * number as u32;
            save_rgb(&root.path().join(format!("{class}/deep/{number}.{extension}")), side, 40, red);
        }
        save_grey(&root.path().join(format!("{class}/grey.png")), 90, 30, red);
    }
    let options = OpenOptions { height_width: Some((16, 12)), ..OpenOptions::default() };
    let splits = data::open(root.path(), &options).unwrap();
    assert_eq!(splits.image_size(), ImageSize::new(16, 12, 3));
    assert_eq!(splits.train.len() + splits.val.unwrap().len() + splits.test.unwrap().len(), 16);
    for index in 0..splits.train.len() {
        let expected = [10, 200][splits.train.labels().classes().unwrap()[index] as usize];
        // The middle one: the first is beside an image that is padded.
        let red = i32::from(pixels(&splits.train, index)[3 * (8 * 12 + 6)]);
        assert!((red - expected).abs() < 12, "{}: {red}", splits.train.image_name(index));
    }

    assert_eq!(open(root.path()).image_size(), ImageSize::new(48, 48, 3), "images of many sizes");
    let grey = data::open(root.path(), &OpenOptions { channels: Some(1), ..options }).unwrap();
    assert_eq!(grey.image_size(), ImageSize::new(16, 12, 1));
}

#[test]
fn the_budget_changes_the_speed_only() {
    let root = two_classes();
    let with_budget =
        |cache_bytes| data::open(root.path(), &OpenOptions { cache_bytes, ..OpenOptions::default() }).unwrap().train;
    let all = with_budget(1 << 20);
    for cache_bytes in [0, 1000] {
        let some = with_budget(cache_bytes);
        assert_eq!(some.labels(), all.labels());
        assert!((0..all.len()).all(|index| pixels(&some, index) == pixels(&all, index)));
    }
    fs::remove_dir_all(root.path().join("cat")).unwrap();
    assert_eq!(pixels(&all, 0)[1..3], [20, 30], "what is cached needs no file any more");
}

#[test]
fn unreadable_images_are_skipped_named_and_counted() {
    let root = two_classes();
    let cut = root.path().join("cat/3.png");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let text = root.path().join("dog/page.jpg");
    fs::write(&text, "<html>").unwrap();
    fs::write(root.path().join("dog/notes.txt"), "not an image").unwrap();
    fs::write(root.path().join("dog/.hidden.png"), "passed over").unwrap();
    // Whether cached or not, the same images are left.
    for cache_bytes in [0, 1 << 20] {
        let options = OpenOptions { cache_bytes, ..OpenOptions::default() };
        let splits = data::open(root.path(), &options).unwrap();
        let paths: Vec<_> = splits.skipped.iter().map(|skipped| skipped.path.clone()).collect();
        assert_eq!(paths, [cut.clone(), text.clone()]);
        assert!(splits.skipped.iter().all(|skipped| !skipped.reason.is_empty()));
        let images = splits.train.len() + splits.val.unwrap().len() + splits.test.unwrap().len();
        assert_eq!((images, splits.ignored_files), (19, 1));

        let strict = data::open(root.path(), &OpenOptions { strict: true, ..options }).unwrap_err();
        assert!(matches!(strict, DataError::UnreadableImages { count: 2, total: 21, ref path, .. } if *path == cut));
    }
}

#[test]
fn what_is_passed_over_is_told_by_kind() {
    let root = two_classes();
    for name in ["cat/a.HEIC", "cat/b.heic", "dog/c.avif", "dog/notes.txt", "dog/LICENSE"] {
        fs::write(root.path().join(name), "").unwrap();
    }
    let splits = open(root.path());
    let said: Vec<String> = splits.findings.iter().map(Finding::to_string).collect();
    assert_eq!(
        said,
        [
            "left out images of formats that are not read: 1 AVIF, 2 HEIC; convert them to JPEG or PNG",
            "left out files that are no images: 1 without extension, 1 .txt",
        ]
    );
    assert_eq!(splits.ignored_files, 5);

    fs::create_dir(root.path().join("emu")).unwrap();
    fs::write(root.path().join("emu/1.heic"), "").unwrap();
    let message = error(root.path()).to_string();
    assert!(message.contains("has no image, but 1 HEIC, which are not read"), "{message}");
}

#[test]
fn an_image_on_both_sides_is_found_whatever_its_format_and_the_budget() {
    let root = tempfile::tempdir().unwrap();
    for (part, from) in [("train", 0), ("val", 100)] {
        for (class, number) in ["a", "b"].into_iter().flat_map(|class| (0..5).map(move |number| (class, number))) {
            let red = from + number + if class == "b" { 50 } else { 0 };
            save_rgb(&root.path().join(format!("{part}/{class}/{number}.png")), 8, 8, red);
        }
    }
    save_rgb(&root.path().join("val/b/copy.bmp"), 8, 8, 52);
    for cache_bytes in [0, 1000, 1 << 20] {
        let options = OpenOptions { cache_bytes, ..OpenOptions::default() };
        let findings = data::open(root.path(), &options).unwrap().findings;
        let name = |file: &str| root.path().join(file).display().to_string();
        let examples = vec![(name("train/b/2.png"), name("val/b/copy.bmp"))];
        assert_eq!(findings, [Finding::Leak { parts: ["training", "validation"], images: 1, examples }]);
    }
}

#[test]
fn folders_one_level_too_deep_are_told() {
    let root = tempfile::tempdir().unwrap();
    for (at, folder) in (0..).zip(["cats/persian", "cats/siamese", "dogs"]) {
        for number in 0..10 {
            save_rgb(&root.path().join(format!("pets/{folder}/{number}.png")), 8, 8, 20 * at + number);
        }
    }
    let pets = root.path().join("pets");
    let folders = vec![(pets.join("cats"), vec!["persian".to_string(), "siamese".to_string()])];
    assert_eq!(open(&pets).findings, [Finding::Nested { folders }]);
    // With nothing but the folder of folders there would be one class.
    let message = error(root.path()).to_string();
    assert!(message.contains("only the folder pets") && message.contains("cats, dogs"), "{message}");
    assert!(message.ends_with(&format!("give {} as the data", pets.display())), "{message}");
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_opened_is_skipped() {
    let root = two_classes();
    let link = root.path().join("cat/a.png");
    std::os::unix::fs::symlink(root.path().join("nowhere.png"), &link).unwrap();
    let splits = open(root.path());
    assert_eq!(splits.skipped.len(), 1);
    assert_eq!(splits.skipped[0].path, link);
}

#[test]
fn an_image_that_vanishes_later_is_an_error_that_names_it() {
    let root = two_classes();
    let splits = data::open(root.path(), &OpenOptions { cache_bytes: 0, ..OpenOptions::default() }).unwrap();
    fs::remove_file(splits.train.image_name(0)).unwrap();
    let error = splits.train.read(0, &mut [0; 8 * 8 * 3]).unwrap_err().to_string();
    assert!(error.contains(&splits.train.image_name(0)), "{error}");
}

#[test]
fn decompression_bombs_are_skipped() {
    let root = two_classes();
    save_grey(&root.path().join("cat/bomb.png"), 3000, 3000, 0);
    let limits = DecodeLimits { max_bytes: 1 << 20, ..DecodeLimits::default() };
    let splits = data::open(root.path(), &OpenOptions { limits, ..OpenOptions::default() }).unwrap();
    assert_eq!(splits.skipped.len(), 1);
    assert!(splits.skipped[0].path.ends_with("cat/bomb.png"));
}

#[test]
fn folders_that_are_no_data_sets_say_what_they_are() {
    let root = tempfile::tempdir().unwrap();
    assert!(error(root.path()).to_string().contains("it is empty"));
    assert!(matches!(error(&root.path().join("nothing")), DataError::NotFound { .. }));
    save_grey(&root.path().join("1.png"), 4, 4, 0);
    assert!(error(root.path()).to_string().contains("1 images, not in class folders"));
    assert!(matches!(error(&root.path().join("1.png")), DataError::NotAFolder { .. }));
}

#[test]
fn empty_and_single_classes_are_refused() {
    let root = tempfile::tempdir().unwrap();
    save_grey(&root.path().join("only/1.png"), 4, 4, 0);
    save_grey(&root.path().join("only/2.png"), 4, 4, 0);
    assert!(matches!(error(root.path()), DataError::OneClass { class, .. } if class == "only"));

    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("readme.txt"), "none here").unwrap();
    assert!(matches!(error(root.path()), DataError::EmptyClass { path, unreadable: 0, .. } if path == empty));

    fs::write(empty.join("broken.png"), "broken").unwrap();
    let error = error(root.path());
    assert!(matches!(&error, DataError::EmptyClass { path, unreadable: 1, .. } if *path == empty));
    assert!(error.to_string().contains("no readable image"), "{error}");
}

#[test]
fn statistics_are_of_the_training_part() {
    let root = two_classes();
    let statistics = Normalisation::of(&open(root.path()).train).unwrap();
    assert!((statistics.mean[1] - 20.0 / 255.0).abs() < 1e-6);
    assert!((statistics.std[0] - 50.0 / 255.0).abs() < 0.01, "{statistics:?}");
    statistics.check(3).unwrap();
}
