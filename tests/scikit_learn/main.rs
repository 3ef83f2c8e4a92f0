//! Figures of predictions against scikit-learn's, which `make_metrics.py` computed.

use std::collections::BTreeSet;

use gabor::{
    data::Labels,
    tasks::{Classification, Evaluation, MultiLabel, Predictions, Task},
};
use serde_json::{Map, Value};

/// What the figures may be off by.
const TOLERANCE: f64 = 1e-6;

/// Fields of an evaluation that are no figure of scikit-learn's.
const NOT_FIGURES: [&str; 10] = [
    "images",
    "threshold",
    "loss",
    "per_class",
    "confusion",
    "intervals",
    "most_confused",
    "reliability",
    "mistakes",
    // The mean of the bins of `reliability`, which are compared.
    "calibration_error",
];

fn cases(name: &str) -> Vec<Value> {
    let cases: Value = serde_json::from_str(include_str!("metrics.json")).unwrap();
    cases[name].as_array().unwrap().clone()
}

fn rows(case: &Value, name: &str) -> Vec<Vec<f32>> {
    serde_json::from_value(case[name].clone()).unwrap()
}

/// Predictions with these answers, each image's loss being its number.
fn predictions(answers: &[Vec<f32>], labels: Labels) -> Predictions {
    Predictions {
        classes: (0..answers[0].len()).map(|class| format!("class {class}")).collect(),
        images: (0..answers.len()).map(|image| format!("{image}.png")).collect(),
        answers: answers.concat(),
        labels,
        losses: (0..answers.len()).map(|image| image as f32).collect(),
        ..Predictions::default()
    }
}

/// Checks that `found` has the figures of `expected` and no others.
fn compare(found: &Map<String, Value>, expected: &Value, what: &str) {
    let expected = expected.as_object().unwrap();
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    for name in names.into_iter().filter(|name| !NOT_FIGURES.contains(&name.as_str()) && *name != "class") {
        let [own, wanted] =
            [found, expected].map(|figures| figures.get(name).unwrap_or_else(|| panic!("{what}: no {name}")));
        match (own.as_f64(), wanted.as_f64()) {
            (Some(own), Some(wanted)) => {
                assert!((own - wanted).abs() < TOLERANCE, "{what}, {name}: {own} and {wanted}")
            }
            (own, wanted) => assert_eq!(own, wanted, "{what}, {name}"),
        }
    }
}

fn compare_all(evaluation: &Evaluation, case: &Value, what: &str) -> Map<String, Value> {
    let found = serde_json::to_value(evaluation).unwrap().as_object().unwrap().clone();
    compare(&found, &case["whole"], what);
    let (classes, wanted) = (found["per_class"].as_array().unwrap(), case["per_class"].as_array().unwrap());
    assert_eq!(classes.len(), wanted.len());
    for (class, wanted) in classes.iter().zip(wanted) {
        assert_eq!(class["images"], wanted["images"]);
        compare(class.as_object().unwrap(), wanted, &format!("{what}, {}", class["class"]));
    }
    found
}

#[test]
fn one_class_an_image() {
    for case in cases("classification") {
        let shares = |row: &Vec<f32>| row.iter().map(|score| score / row.iter().sum::<f32>()).collect();
        let answers: Vec<Vec<f32>> = rows(&case, "scores").iter().map(shares).collect();
        let labels: Vec<u32> = serde_json::from_value(case["labels"].clone()).unwrap();
        let (classes, images) = (answers[0].len(), answers.len());
        let what = format!("{classes} classes");
        let evaluation = Classification::new(classes).judge(&predictions(&answers, labels.into()));
        let found = compare_all(&evaluation, &case, &what);
        assert_eq!(found["confusion"], case["confusion"], "{what}");
        let bins = found["reliability"]["bins"].as_array().unwrap();
        let filled: Vec<&Value> = bins.iter().filter(|bin| bin["images"] != 0).collect();
        let wanted = case["reliability"].as_array().unwrap();
        assert_eq!((filled.len(), evaluation.images), (wanted.len(), images));
        let mut error = 0.0;
        for (bin, wanted) in filled.iter().zip(wanted) {
            let number = |value: &Value| value.as_f64().unwrap();
            let (accuracy, confidence) = (number(&bin["accuracy"]), number(&bin["confidence"]));
            assert!((accuracy - number(&wanted[0])).abs() < TOLERANCE, "{what}: {bin} and {wanted}");
            assert!((confidence - number(&wanted[1])).abs() < TOLERANCE, "{what}: {bin} and {wanted}");
            error += number(&bin["images"]) * (accuracy - confidence).abs() / images as f64;
        }
        assert!((evaluation.metric("calibration error").unwrap() - error).abs() < 1e-12);
        for (figure, interval) in &evaluation.intervals {
            let value = found[figure].as_f64().unwrap();
            assert!(interval.low <= value && value <= interval.high && interval.low < interval.high, "{figure}");
        }
        assert_eq!(evaluation.intervals.len(), 3);
        assert!(evaluation.mistakes.iter().all(|mistake| mistake.class != mistake.taken_for));
        assert!(evaluation.mistakes.is_sorted_by(|a, b| a.loss >= b.loss) && !evaluation.mistakes.is_empty());
    }
}

#[test]
fn several_classes_an_image() {
    for case in cases("multi_label") {
        let answers: Vec<Vec<f32>> =
            rows(&case, "scores").iter().map(|row| row.iter().map(|score| score / 16.0).collect()).collect();
        let labels = Labels::Rows { width: answers[0].len(), values: rows(&case, "labels").concat() };
        let evaluation = MultiLabel::new(answers[0].len()).judge(&predictions(&answers, labels));
        compare_all(&evaluation, &case, "multi-label");
    }
}
