//! What is in images, as a person asks for it.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use crate::support::Workplace;

fn trained() -> Workplace {
    let place = Workplace::with_shapes();
    place.run("train shapes --device cpu --batch-size 16 --lr 0.003 --epochs 8 --out run").expect_code(0);
    place
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn folders_patterns_and_lists_name_images() {
    let place = trained();
    let count = |args: &str| {
        let result = place.json(&format!("predict run {args} --device cpu --json"));
        result["images"].as_array().unwrap().len()
    };
    assert_eq!(count("shapes"), 120);
    assert_eq!(count("shapes/plain shapes/down/001.png"), 41);
    assert_eq!(count("shapes/*/00[12].png"), 6);
    let mut command: Command = place.command("predict run - --device cpu --top 1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"shapes/down/001.png\n\nshapes/plain/003.png\n").unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 4 && lines[0] == "shapes/down/001.png" && lines[3].ends_with("%  plain"), "{said}");

    fs::create_dir(place.path("empty")).unwrap();
    // Of another size, in colour, with transparency: brought to what the model takes.
    image::RgbaImage::from_pixel(40, 30, image::Rgba([200, 10, 10, 100])).save(place.path("other.png")).unwrap();
    let other = place.json("predict run other.png --device cpu --json");
    assert!(other["images"][0]["predictions"][0]["probability"].as_f64().unwrap() > 0.3, "{other}");
    place.run("predict run empty").expect_error(&["empty holds no image"]);
    place.run("predict run none/*.png").expect_error(&["no file matches none/*.png"]);
    place.run("predict run none.png --device cpu").expect_error(&["none.png"]);
    let nothing = place.command("predict run -").stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8(nothing.stderr).unwrap().contains("no image is named"));
}

#[test]
fn each_image_is_a_row_and_unreadable_ones_are_too() {
    let place = trained();
    fs::write(place.path("shapes/down/broken.png"), "no image").unwrap();
    let finished = place.run("predict run shapes --csv said.csv --top 1 --device cpu").expect_code(1);
    assert_eq!(finished.out.lines().count(), 240, "{finished:#?}");
    let said = place.read("said.csv");
    let rows: Vec<Vec<&str>> = said.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(rows[0], ["image", "class", "probability", "error", "across", "down", "plain"]);
    assert_eq!((rows.len(), rows[1][0]), (122, "shapes/across/000.png"));
    for row in &rows[1..] {
        if row[0].ends_with("broken.png") {
            assert!(row[1].is_empty() && row[3].contains("broken.png"), "{row:?}");
            continue;
        }
        let probabilities: Vec<f32> = row[4..].iter().map(|cell| cell.parse().unwrap()).collect();
        let best = probabilities.iter().copied().fold(0.0, f32::max);
        assert_eq!(best, row[2].parse::<f32>().unwrap(), "{row:?}");
        assert_eq!(rows[0][4 + probabilities.iter().position(|p| *p == best).unwrap()], row[1], "{row:?}");
    }
    place.run("predict run shapes --csv no/folder.csv").expect_error(&["no/folder.csv"]);
}

#[test]
fn images_are_sorted_by_what_they_are_taken_for() {
    let place = trained();
    let finished = place.run("predict run shapes/plain --sort sorted --device cpu").expect_code(0);
    let images = finished.out.lines().filter(|line| !line.starts_with(' ') && !line.starts_with("sorted into"));
    let told = images.count();
    assert!(finished.out.lines().last().unwrap().starts_with("sorted into sorted: "), "{}", finished.out);
    let sorted: usize =
        names(&place.path("sorted")).iter().map(|class| names(&place.path("sorted").join(class)).len()).sum();
    assert_eq!((told, sorted), (40, 40));
    assert!(names(&place.path("sorted/plain")).len() > 30);
    // Again, and other images of the same names: nothing twice, nothing replaced.
    place.run("predict run shapes/plain shapes/across --sort sorted --device cpu").expect_code(0);
    let all: Vec<String> =
        names(&place.path("sorted")).iter().flat_map(|class| names(&place.path("sorted").join(class))).collect();
    assert_eq!(all.len(), 80);
    place.run("predict run shapes/down --sort links --link --threshold 1 --device cpu").expect_code(0);
    let link = place.path("links/unsure/001.png");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::read(link).is_ok());
    assert!(place.path("shapes/down/001.png").is_file());
    place.run("predict run shapes --link").expect_code(2);
    place.run("predict run shapes --threshold 1.5").expect_code(2);
}
