//! Images of other proportions than the network's.

use std::fs;

use image::{GrayImage, Luma};

use crate::support::Workplace;

/// Writes 25 images of each of two classes, which differ by a mark of stripes, across or down, at the left end. They are
/// `stretch` times as wide as high, and of two sizes.
fn marked(place: &Workplace, folder: &str, stretch: u32) {
    for (label, class) in ["across", "down"].into_iter().enumerate() {
        let folder = place.path(folder).join(class);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..25u32 {
            let side = 32 + 16 * (number % 2);
            let image = GrayImage::from_fn(side * stretch, side, |x, y| {
                let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ number.wrapping_mul(97)) % 31;
                let at = [y, x][label] * 4 / side;
                let stripe = x < side && (at + number / 2).is_multiple_of(2);
                Luma([(60 + noise + if stripe { 120 } else { 0 }) as u8])
            });
            image.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
}

#[test]
fn wide_images_are_learned_as_well_as_square_ones() {
    let place = Workplace::new();
    marked(&place, "square", 1);
    marked(&place, "wide", 4);
    let train = |folder: &str| {
        let flags = "--image-size 24 --device cpu --epochs 10 --lr 0.003 --json";
        let finished = place.run(&format!("train {folder} --out run-{folder} {flags}")).expect_code(0);
        let result = finished.json();
        (result["best"]["accuracy"].as_f64().unwrap(), finished.err)
    };
    let (square, told) = train("square");
    assert!(square > 0.9 && told.contains("images  24x24, as asked for\n"), "{square}, {told}");
    let batches = "batches 5 an epoch, of 8 images; that suits 35 training images, and --batch-size takes another\n";
    assert!(told.contains(batches), "{told}");
    let (wide, told) = train("wide");
    assert!(wide >= square, "{wide}");
    assert!(told.contains("whole, padded with grey, as cropping would cut 75% off the median image"), "{told}");
    let told = place.run("train wide --image-size 24 --device cpu --fit crop --max-steps 1").expect_code(0).out;
    assert!(told.contains("cropped to the middle, which cuts 75% off"), "{told}");

    // The weights keep how images were fitted.
    let at = |class: &str| format!("predict run-wide wide/{class}/7.png --device cpu --json");
    for class in ["across", "down"] {
        assert_eq!(place.json(&at(class))["images"][0]["predictions"][0]["class"], class);
    }
}
