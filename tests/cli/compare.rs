use std::fs;

use crate::support::Workplace;

#[test]
fn runs_are_put_side_by_side() {
    let place = Workplace::with_shapes();
    let train = "train shapes --device cpu --batch-size 16 --epochs 2";
    place.run(&format!("{train} --lr 0.003 --out first")).expect_code(0);
    place.run(&format!("{train} --lr 0.001 --dropout 0.1 --out second")).expect_code(0);
    let compared = place.json("compare first second --json");
    let runs = compared["runs"].as_array().unwrap();
    assert!(runs.len() == 2 && runs[0]["run"] == "first" && runs[1]["epochs"] == 2, "{compared}");
    let loss = runs[0]["val_loss"].as_f64().unwrap();
    let epoch = runs[0]["best_epoch"].as_u64().unwrap().to_string();
    assert_eq!(runs[0]["measure"], "val_accuracy");
    let logged = place.read("first/metrics.csv");
    let mut rows = logged.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let column = rows.next().unwrap().iter().position(|name| *name == "val_loss").unwrap();
    let row = rows.find(|row| row[0] == epoch).unwrap();
    assert!((loss - row[column].parse::<f64>().unwrap()).abs() < 1e-9, "{compared} {logged}");
    let differing = compared["differing"].as_object().unwrap();
    let names: Vec<&str> = differing.keys().map(String::as_str).collect();
    assert_eq!(names, ["recipe.dropout", "recipe.learning_rate"]);
    assert_eq!(differing["recipe.learning_rate"], serde_json::json!([0.003, 0.001]));

    let finished = place.run("compare first second --page both.html").expect_code(0);
    assert!(finished.out.contains("second") && finished.out.contains("recipe.dropout"), "{finished:#?}");
    let page = place.read("both.html");
    assert!(page.contains("Val loss: ") && page.contains("recipe.learning_rate"), "{page}");
    fs::create_dir(place.path("empty")).unwrap();
    place.run("compare first empty").expect_error(&["empty"]);
    place.run("compare first nowhere").expect_error(&["nowhere does not exist"]);
}
