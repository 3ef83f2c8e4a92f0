//! The range test of the learning rate as a person runs it.

use crate::support::Workplace;

const RANGE: &str = "lr-range shapes --device cpu --batch-size 16 --augment none";

#[test]
fn a_range_test_suggests_a_rate_and_leaves_a_plot_and_no_run() {
    let place = Workplace::with_shapes();
    let result = place.json(&format!("{RANGE} --from 1e-6 --to 100 --steps 80 --json"));
    let suggestion = result["suggestion"].as_f64().unwrap();
    assert!((1e-5..0.3).contains(&suggestion), "{result}");
    assert_eq!(result["diverged"], true, "{result}");
    let (csv, svg) = (place.read("lr-range.csv"), place.read("lr-range.svg"));
    assert_eq!(csv.lines().next(), Some("step,learning_rate,loss,smoothed_loss"));
    assert_eq!(csv.lines().count() as u64, 1 + result["steps"].as_u64().unwrap());
    assert!(csv.lines().nth(1).unwrap().starts_with("1,1e-6,"), "{csv}");
    assert!(svg.starts_with("<svg") && svg.contains("steepest descent") && svg.contains("seed-cnn"), "{svg}");
    assert!(!place.path("runs").exists());

    // The same again goes beside it and comes to the same.
    let told = place.run(&format!("{RANGE} --from 1e-6 --to 100 --steps 80")).expect_code(0).out;
    assert!(told.contains("suggested --lr") && told.contains("lr-range-2.svg"), "{told}");
    assert_eq!(place.read("lr-range-2.csv"), csv);
    place.run(&format!("train shapes --device cpu --lr {suggestion} --max-steps 2")).expect_code(0);
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let place = Workplace::with_shapes();
    for (flags, word) in
        [("--from 0", "`from` (--from) is 0"), ("--steps 9", "`steps`"), ("--from 1 --to 0.1", "`to` (--to)")]
    {
        place.run(&format!("{RANGE} {flags}")).expect_error(&[word]);
    }
    place.run(&format!("{RANGE} --out plot.png")).expect_error(&["plot.png", ".svg"]);
    let error = place.run(&format!("{RANGE} --lr 0.1")).expect_code(2).err;
    assert!(error.contains("no effect on a range test"), "{error}");
    for name in ["lr-range.svg", "lr-range.csv", "runs"] {
        assert!(!place.path(name).exists(), "{name}");
    }
}
