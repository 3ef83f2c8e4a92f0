//! Runs that begin with the weights of a file.

use std::{collections::HashMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::support::{Workplace, rows_without_time, wait_until};

const TRAIN: &str = "train shapes --device cpu --batch-size 16 --augment none";

type Tensors = HashMap<String, Vec<f32>>;

fn tensors(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let floats =
        |bytes: &[u8]| bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    file.tensors().into_iter().map(|(name, view)| (name, floats(view.data()))).collect()
}

/// A place with a finished run of a network with batch norms in the folder `first`.
fn with_run() -> Workplace {
    let place = Workplace::with_shapes();
    place.run(&format!("{TRAIN} --model resnet20 --max-steps 4 --out first")).expect_code(0);
    place
}

/// The file `name` of `tests/pytorch/weights` as `weights.pth`.
fn copy_fixture(place: &Workplace, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/weights");
    fs::copy(folder.join(name), place.path("weights.pth")).unwrap();
}

#[test]
fn the_head_alone_is_trained_until_all_is_unfrozen() {
    let place = with_run();
    let begin = format!("{TRAIN} --model resnet20 --pretrained first --unfreeze-at 3 --epochs 4");
    fs::rename(place.path("shapes/plain"), place.path("shapes/smooth")).unwrap();
    let finished = place.run(&format!("{begin} --max-steps 12 --out second")).expect_code(0);
    for words in ["fc begins anew, that of the file is for 3 classes", "images are normalised as", "before epoch 3"] {
        assert!(finished.out.contains(words), "no {words:?} in {finished:#?}");
    }
    let (old, new) =
        (tensors(&place.bytes("first/best.safetensors")), tensors(&place.bytes("second/last.safetensors")));
    assert!(old.keys().any(|name| name.ends_with("running_mean")));
    for (name, values) in &old {
        assert_eq!(new[name] == *values, !name.starts_with("fc."), "{name}");
    }
    place.run("train --resume second --max-steps 18").expect_code(0);
    let all = tensors(&place.bytes("second/last.safetensors"));
    assert!(new.iter().all(|(name, values)| all[name] != *values), "all is trained from epoch 3 on");
}

#[test]
fn a_run_in_stages_is_resumed_with_the_same_bits() {
    let place = with_run();
    let flags = "--pretrained first --unfreeze-at 3 --epochs 4 --freeze layer1.* --ema 0.9 --log-steps --accumulate 2 \
                 --schedule constant";
    let train = format!("{TRAIN} --model resnet20 {flags}");
    place.run(&format!("{train} --out whole")).expect_code(0);
    // Within the stage of the head, and just before and after its end: an epoch is 3 steps.
    place.run(&format!("{train} --out cut --max-steps 4")).expect_code(0);
    for steps in ["6", "7"] {
        place.run(&format!("train --resume cut --max-steps {steps}")).expect_code(0);
    }
    fs::remove_dir_all(place.path("first")).unwrap();
    place.run("train --resume cut --max-steps 1000").expect_code(0);
    // What was measured where it was cut may have been the best: the files' metadata differ by that.
    let [whole, cut] = ["whole", "cut"].map(|run| tensors(&place.bytes(&format!("{run}/resume.safetensors"))));
    assert!(whole.keys().any(|name| name.starts_with("moment2/layer3")) && whole == cut);
    let rows = |run: &str| rows_without_time(&place.read(&format!("{run}/steps.csv")));
    assert_eq!(rows("whole"), rows("cut"));
}

#[test]
fn a_killed_run_goes_on_without_the_file_that_it_began_with() {
    let place = with_run();
    let train = format!("{TRAIN} --model resnet20 --pretrained first/last.safetensors --epochs 3");
    place.run(&format!("{train} --out whole")).expect_code(0);
    let mut child = place.spawn(&format!("{train} --out killed --checkpoint-every 0"));
    wait_until(|| place.path("killed/resume.safetensors").is_file());
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(place.path("first")).unwrap();
    place.run("train --resume killed --checkpoint-every 60").expect_code(0);
    assert!(place.bytes("whole/last.safetensors") == place.bytes("killed/last.safetensors"));
}

#[test]
fn the_same_classes_keep_the_head() {
    let place = with_run();
    let finished = place.run(&format!("{TRAIN} --pretrained first --lr 0 --max-steps 1 --out second"));
    assert!(!finished.expect_code(0).out.contains("begins anew"));
    let [first, second] = ["first/best", "second/last"].map(|run| tensors(&place.bytes(&format!("{run}.safetensors"))));
    assert_eq!(first["fc.weight"], second["fc.weight"]);
}

#[test]
fn weights_of_another_model_are_told_with_the_right_one() {
    let place = with_run();
    let of = |flags: &str| place.run(&format!("{TRAIN} --pretrained first {flags}"));
    of("--model lenet5").expect_error(&[
        "best.safetensors",
        "another model than lenet5",
        "missing conv1.bias",
        "unexpected bn1.bias",
        "fit resnet20",
    ]);
    of("--model resnet32").expect_error(&[
        "another model than resnet32",
        "missing layer1.3.conv1.weight",
        "they fit resnet20: give this as the `model` (--model)",
    ]);
    of("--model resnet20 --channels 3").expect_error(&["conv1.weight", "of another shape", "[3, 3, 1, 16]"]);

    let coloured = format!("{TRAIN} --channels 3 --max-steps 1");
    place.run(&format!("{coloured} --model resnet20 --out coloured")).expect_code(0);
    let grey = place.run(&format!("{TRAIN} --model resnet20 --channels 1 --pretrained coloured --normalise data"));
    grey.expect_error(&["they fit resnet20 for images of 12x12 with 3 channels", "--channels"]);
    assert!(!place.path("runs").exists(), "a run that could not begin leaves no folder");
}

#[test]
fn files_that_are_no_weights_are_refused() {
    let place = Workplace::with_shapes();
    let refused = |words: &[&str]| {
        place.run(&format!("{TRAIN} --pretrained weights.pth")).expect_error(&[&["weights.pth"], words].concat());
    };
    refused(&["does not exist", "a run folder"]);
    copy_fixture(&place, "command.pth");
    refused(&["asks for posix.system", "nothing was run", "state_dict()"]);
    assert!(!place.path("gabor-ran-this").exists());
    copy_fixture(&place, "zip.pth");
    refused(&["another model than resnet20", "missing conv1.weight", "unexpected brain"]);
    let whole = place.bytes("weights.pth");
    fs::write(place.path("weights.pth"), &whole[..2000]).unwrap();
    refused(&["not a complete zip file"]);
    fs::write(place.path("weights.pth"), "no weights").unwrap();
    refused(&["none of the weights files"]);
    let cached = |name: &str| place.run(&format!("{TRAIN} --model resnet18 --pretrained {name}"));
    cached("resnet18").expect_error(&["weights of resnet18 are not in", "run gabor download weights resnet18"]);
    cached("resnet20").expect_error(&["no public weights of resnet20"]);
    cached("alexnet").expect_error(&["alexnet does not exist"]);
    assert!(!place.path("runs").exists(), "a run that could not begin leaves no folder");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let place = with_run();
    let mut all = tensors(&place.bytes("first/best.safetensors"));
    all.get_mut("conv1.weight").unwrap()[7] = f32::NAN;
    // As PyTorch's, [out, in, kh, kw]: without gabor's metadata.
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let shape = |name: &str| {
        let first = place.bytes("first/best.safetensors");
        let shape = SafeTensors::deserialize(&first).unwrap().tensor(name).unwrap().shape().to_vec();
        match shape[..] {
            [height, width, inner, out] => vec![out, inner, height, width],
            [inner, out] => vec![out, inner],
            _ => shape,
        }
    };
    let contents: Vec<_> = all.iter().map(|(name, values)| (name, shape(name), bytes(values))).collect();
    let views = contents
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(place.path("weights.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let train = format!("{TRAIN} --model resnet20 --channels 1 --normalise data --pretrained weights.safetensors");
    place.run(&train).expect_error(&["weights.safetensors", "element 7 of tensor conv1.weight is NaN"]);
}

#[test]
fn patterns_and_epochs_that_cannot_be_are_named() {
    let place = Workplace::with_shapes();
    let of = |flags: &str| place.run(&format!("{TRAIN} {flags}"));
    of("--freeze con1.*").expect_error(&["no parameter is called con1.*", "near to it are conv1.bias, conv1.weight"]);
    of("--lr-scale dens3.*=2").expect_error(&["dens3.*", "dense1.weight"]);
    of("--unfreeze-at 9 --epochs 5").expect_error(&["`unfreeze_at` (--unfreeze-at) is 9", "at most `epochs`"]);
    of("--unfreeze-at 2 --freeze dense2.*").expect_error(&["the last dense layer is frozen"]);
    of("--unfreeze-at 1").expect_error(&["`unfreeze_at`", "at least 2"]);
}

#[test]
fn weights_are_downloaded_into_a_folder() {
    let place = Workplace::new();
    let finished = place.run("download weights resnet18 there --base-url http://127.0.0.1:1/");
    finished.expect_error(&["cannot download resnet18-f37072fd.pth", "http://127.0.0.1:1/", "there"]);
    assert!(place.run("download weights alexnet").expect_code(2).err.contains("resnet18"));
    place.run("download").expect_code(2);
}
