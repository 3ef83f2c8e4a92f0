//! Augmentation as a person sees it.

use crate::support::Workplace;

#[test]
fn a_contact_sheet_is_written_and_nothing_is_written_over() {
    let place = Workplace::with_shapes();
    let told = place.run("augment shapes --images 3 --views 2 --rotation-range 45").expect_code(0).out;
    assert!(told.contains("light: ") && told.contains("rotation_range 45"), "{told}");
    let sheet = image::open(place.path("augmented.png")).unwrap();
    // Three images of 12 pixels, five times as large, with gaps of 4.
    assert_eq!((sheet.width(), sheet.height()), (3 * 64 + 4, 3 * 64 + 4));

    let before = place.bytes("augmented.png");
    place.run("augment shapes --images 1").expect_code(0);
    assert!(place.path("augmented-2.png").is_file() && place.bytes("augmented.png") == before);
    place.run("augment shapes --out augmented.png").expect_error(&["augmented.png is there already", "--out"]);
    place.run("augment shapes --out sheet.jpg").expect_error(&["sheet.jpg", ".png file"]);
    assert!(place.bytes("augmented.png") == before);
}

#[test]
fn what_is_out_of_range_is_told_by_its_flag() {
    let place = Workplace::with_shapes();
    for (flag, words) in [
        ("--rotation-range -5", "`rotation_range` (--rotation-range) is -5 and must be at least 0"),
        ("--crop-scale 0", "--crop-scale"),
        ("--hue nan", "--hue"),
        ("--dropout 1", "--dropout"),
        ("--ema -0.5", "`ema` (--ema) is -0.5"),
    ] {
        place.run(&format!("train shapes --device cpu {flag}")).expect_error(&[words]);
    }
    place.run("train shapes --device cpu --monitor f1 --out run").expect_error(&["--monitor", "f1", "loss, accuracy"]);
    assert!(!place.path("run").exists());
    let told = place.run("train shapes --device cpu --max-steps 1 --augment none --out run").expect_code(0).out;
    assert!(told.contains("augment none\n"), "{told}");
}
