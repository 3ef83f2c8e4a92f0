use std::fs;

use image::{GrayImage, Luma};

use crate::{browser::Page, support::Workplace};

const TRAIN: &str = "train shapes --device cpu --batch-size 16 --lr 0.003";

#[test]
fn a_run_has_a_page_that_a_browser_and_a_screen_reader_take() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --epochs 3 --max-steps 12 --out run")).expect_code(0);
    let page = place.read("run/report.html");
    for words in ["<h2 id=\"summary-heading\">", "Confusion matrix", "Nothing was found wrong", "true class", "12 test"]
    {
        assert!(page.contains(words), "{words} is not in the page");
    }
    assert!(!page.contains("NaN"), "a figure that is not defined is shown as a number");
    for figure in [
        "loss",
        "metric",
        "learning-rate",
        "speed",
        "gradients",
        "updates",
        "class-loss",
        "confusion",
        "roc",
        "calibration",
    ] {
        assert!(place.read(&format!("run/figures/{figure}.svg")).starts_with("<svg"), "{figure}");
        let picture = image::open(place.path(&format!("run/figures/{figure}.png"))).unwrap();
        assert!(picture.to_luma8().pixels().any(|pixel| pixel.0[0] < 128), "{figure} is empty");
    }
    let Some(page) = Page::open(&place.path("run/report.html")) else { return };
    assert!(page.errors.is_empty() && page.requests.is_empty(), "{page:?}");
    let named = |role: &str, name: &str| page.accessible.iter().any(|(is, of)| is == role && of.starts_with(name));
    for figure in ["Loss: ", "Accuracy: ", "Gradients: ", "Precision and recall: ", "ROC: ", "Calibration: "] {
        assert!(
            named("image", figure) || named("img", figure) || named("graphics-document", figure),
            "{figure} {page:#?}"
        );
    }
    assert!(named("navigation", "Sections") && named("heading", "Mistakes") && named("table", "Figures of each class"));
    assert!(page.accessible.iter().all(|(role, name)| role != "image" || name.len() > 5), "{page:?}");
}

#[test]
fn what_is_several_classes_and_what_was_stopped_has_a_page_too() {
    let place = Workplace::with_shapes();
    fs::write(
        place.path("labels.csv"),
        "image,a,b\n".to_string()
            + &(0..40)
                .map(|at| format!("across/{at:03}.png,1,{}\ndown/{at:03}.png,0,{}\n", at % 2, (at + 1) % 2))
                .collect::<String>(),
    )
    .unwrap();
    let train = "train shapes --labels labels.csv --device cpu --batch-size 16 --out several";
    place.run(&format!("{train} --max-steps 4")).expect_code(0);
    let page = place.read("several/report.html");
    assert!(page.contains("images are not told right in each class") && page.contains("average precision"), "{page}");

    place.run(&format!("{TRAIN} --max-steps 3 --out stopped")).expect_code(0);
    fs::remove_file(place.path("stopped/report.html")).unwrap();
    let told = place.json("report stopped --device cpu --json");
    assert_eq!(told["report"], "stopped/report.html");
    assert!(place.read("stopped/report.html").contains("Summary"));
}

#[test]
fn pages_hold_two_classes_and_a_thousand() {
    for classes in [2, 100, 1000] {
        let place = Workplace::new();
        for (part, images) in [("train", 2), ("test", 1)] {
            for class in 0..classes {
                let folder = place.path(&format!("dots/{part}/c{class:04}"));
                fs::create_dir_all(&folder).unwrap();
                for number in 0..images {
                    let level = |x: u32, y: u32| Luma([((x * y * 7 + class * 31 + number * 5) % 256) as u8]);
                    GrayImage::from_fn(8, 8, level).save(folder.join(format!("{number}.png"))).unwrap();
                }
            }
        }
        place.run("train dots --device cpu --max-steps 2 --quiet --out run").expect_code(0);
        let figures = place.json("eval run --device cpu --json");
        let rows = figures["confusion"].as_array().unwrap();
        assert!(rows.len() == classes as usize && rows.iter().all(|row| row.as_array().unwrap().len() == rows.len()));
        assert_eq!(figures["images"], classes);
        let page = place.read("run/report.html");
        assert!(page.len() < 5 << 20 && !page.contains("NaN"), "{classes} classes: {} bytes", page.len());
        let picture = image::open(place.path("run/figures/confusion.png")).unwrap().to_luma8();
        assert!(picture.pixels().any(|pixel| pixel.0[0] < 128), "the matrix of {classes} classes is empty");
        let Some(page) = Page::open(&place.path("run/report.html")) else { continue };
        assert!(page.errors.is_empty() && page.requests.is_empty(), "{page:?}");
        let is_matrix = |(role, name): &(String, String)| name.starts_with("Confusion matrix") && role != "heading";
        assert!(page.accessible.iter().any(is_matrix), "{classes} classes: {:#?}", page.accessible);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told_and_the_run_is_whole() {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --max-steps 2 --out run")).expect_code(0);
    fs::remove_dir_all(place.path("run/figures")).unwrap();
    fs::write(place.path("run/figures"), "a file").unwrap();
    place.run("report run --device cpu").expect_error(&["figures"]);
    let finished = place.run("train --resume run --max-steps 4").expect_code(0);
    assert!(
        finished.err.contains("the report was not written: ") && finished.err.contains("gabor report run"),
        "{finished:#?}"
    );
    place.run("report nowhere").expect_error(&["nowhere does not exist"]);
}
