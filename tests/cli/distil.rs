//! Learning from a teacher as a person does it.

use std::fs;

use crate::support::Workplace;

const TRAIN: &str = "train shapes --device cpu --batch-size 16 --schedule constant --image-size 28 --augment light";

/// A place with a trained teacher in the folder `teacher`.
fn with_teacher() -> Workplace {
    let place = Workplace::with_shapes();
    place.run("train shapes --device cpu --batch-size 16 --image-size 28 --max-steps 12 --out teacher").expect_code(0);
    place
}

#[test]
fn a_student_learns_from_a_teacher_and_a_resumed_one_from_the_same() {
    let place = with_teacher();
    let student = format!("{TRAIN} --model lenet5 --epochs 3 --teacher teacher --accumulate 2 --normalise none");
    let finished = place.run(&format!("{student} --out whole")).expect_code(0);
    assert!(finished.out.contains("teacher seed-cnn, of weight 0.5 at temperature 4"), "{finished:#?}");
    let config = place.read("whole/config.toml");
    assert!(config.contains("teacher/best.safetensors") && config.contains("teacher_sha256 = "), "{config}");
    place.run(&format!("{student} --out parts --max-steps 4")).expect_code(0);
    place.run("train --resume parts --max-steps 1000").expect_code(0);
    assert!(place.bytes("whole/resume.safetensors") == place.bytes("parts/resume.safetensors"));
    place.run(&format!("{student} --teacher-weight 0.9 --out other")).expect_code(0);
    assert!(place.bytes("whole/last.safetensors") != place.bytes("other/last.safetensors"));
    // The student's files are its own alone, and it can teach in turn.
    place.run("eval whole --device cpu").expect_code(0);
    assert!(!String::from_utf8_lossy(&place.bytes("whole/resume.safetensors")).contains("teacher."));
    place.run(&format!("{TRAIN} --teacher whole --max-steps 1 --out chain")).expect_code(0);

    let config = place.read("parts/config.toml");
    place.run("train shapes --device cpu --image-size 28 --max-steps 1 --seed 5 --out teacher-2").expect_code(0);
    fs::copy(place.path("teacher-2/last.safetensors"), place.path("teacher/best.safetensors")).unwrap();
    place.run("train --resume parts --epochs 4").expect_error(&["teacher/best.safetensors", "another one than when"]);
    fs::remove_file(place.path("teacher/best.safetensors")).unwrap();
    place
        .run("train --resume parts --epochs 4")
        .expect_error(&["no `teacher` (--teacher)", "teacher/best.safetensors"]);
    assert_eq!(place.read("parts/config.toml"), config);
}

#[test]
fn a_teacher_of_something_else_is_refused() {
    let place = with_teacher();
    let other_size = TRAIN.replace("28", "32");
    place.run(&format!("{other_size} --teacher teacher")).expect_error(&["28x28x1", "32x32x1", "(--image-size)"]);
    place.run(&format!("{TRAIN} --teacher nowhere")).expect_error(&["(--teacher)", "nowhere does not exist"]);
    place.run(&format!("{TRAIN} --teacher-temperature 0 --teacher teacher")).expect_error(&["`teacher_temperature`"]);
    fs::rename(place.path("shapes/plain"), place.path("shapes/simple")).unwrap();
    place.run(&format!("{TRAIN} --teacher teacher")).expect_error(&["across, down, plain", "across, down, simple"]);
    assert!(!place.path("runs").exists());
}
