//! Every reader, given files with bytes changed, cut off or put in: an answer or an error, and never a panic.

use std::{fs, path::Path};

use gabor::{
    data::{self, DecodeLimits, Fit, ImageDecoder, ImageSize, OpenOptions},
    plan::Choices,
    report::{EpochLog, StepLog},
    train::{Progress, Recipe, read_card},
    weights::WeightsFile,
};
use proptest::{prelude::*, test_runner::TestRunner};

const CASES: u32 = 200;

#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    // Headers come first, and that is where most of the decisions are.
    let place = || prop_oneof![0..64usize, 0..1usize << 20];
    let one = prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => place().prop_map(Mutation::Cut),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (place(), 1..40usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ];
    prop::collection::vec(one, 1..6)
}

fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for mutation in mutations {
        let within = |at: usize| at % (bytes.len() + 1);
        match mutation {
            Mutation::Set(at, byte) => {
                let at = within(*at);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Mutation::Cut(at) => bytes.truncate(within(*at)),
            Mutation::Insert(at, new) => {
                let at = within(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Repeat(at, count) => {
                let at = within(*at);
                let part = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// Gives `read` many mutated forms of `bytes`, the same ones in each run.
fn survives(bytes: &[u8], read: impl Fn(&[u8])) {
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() },
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    runner
        .run(&mutations(), |mutations| {
            read(&mutated(bytes, &mutations));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

fn folder_with(name: &str, others: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in others {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join(name);
    (folder, path)
}

fn open(folder: &Path) {
    if let Ok(splits) = data::open(folder, &OpenOptions::default()) {
        let mut pixels = vec![0; splits.image_size().bytes()];
        let _ = splits.train.read(0, &mut pixels);
    }
}

#[test]
fn idx() {
    let header = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    let images = [header(&[0x803, 6, 4, 4]), vec![7; 96]].concat();
    let labels = [header(&[0x801, 6]), vec![0, 1, 0, 1, 0, 1]].concat();
    let [of_images, of_labels] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
    let (folder, path) = folder_with(of_images, &[(of_labels, labels.clone())]);
    survives(&images, |bytes| {
        fs::write(&path, bytes).unwrap();
        open(folder.path());
    });
    let (folder, path) = folder_with(of_labels, &[(of_images, images)]);
    survives(&labels, |bytes| {
        fs::write(&path, bytes).unwrap();
        open(folder.path());
    });
}

#[test]
fn cifar() {
    let record = |label: u8| [vec![label], vec![9; 3072]].concat();
    let batch = [record(0), record(1)].concat();
    let names = [1, 2, 3, 4, 5].map(|n| format!("data_batch_{n}.bin"));
    let others: Vec<(&str, Vec<u8>)> = names[1..].iter().map(|name| (name.as_str(), batch.clone())).collect();
    let (folder, path) = folder_with(&names[0], &others);
    survives(&batch, |bytes| {
        fs::write(&path, bytes).unwrap();
        open(folder.path());
    });
}

#[test]
fn labels() {
    let image = image::GrayImage::from_pixel(3, 3, image::Luma([9]));
    for text in [
        "a.png,red|round\nb.png,\nc.png,red\n",
        "path,red,round\na.png,1,0\nb.png,0,1\nc.png,1,1\n",
        "a.png 1\nb.png 2\n",
    ] {
        let (folder, path) = folder_with("labels.csv", &[]);
        ["a.png", "b.png", "c.png"].iter().for_each(|name| image.save(folder.path().join(name)).unwrap());
        survives(text.as_bytes(), |bytes| {
            fs::write(&path, bytes).unwrap();
            let _ = data::open(folder.path(), &OpenOptions { labels: Some(path.clone()), ..OpenOptions::default() });
        });
    }
}

#[test]
fn images() {
    let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 128]));
    let decoder = ImageDecoder {
        size: ImageSize::new(5, 5, 3),
        fit: Fit::Crop,
        limits: DecodeLimits { max_side: 4096, max_bytes: 8 << 20 },
    };
    for format in ["png", "jpg", "bmp", "gif", "webp", "tiff"] {
        let (_folder, path) = folder_with(&format!("image.{format}"), &[]);
        image.save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        survives(&bytes, |bytes| {
            fs::write(&path, bytes).unwrap();
            let _ = decoder.read(&path, &mut [0; 75]);
        });
    }
}

#[test]
fn weights() {
    let card = r#"{"model":"lenet5","input":[28,28,1],"classes":["a","b"],"normalisation":{"mean":[0.5],"std":[0.25]},
        "progress":{"step":1,"batches":2,"best":0.5,"best_epoch":1,"loss_sum":0.5,"weight_sum":1.0,"correct":1,"images":2}}"#;
    let values: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &values).unwrap();
    let metadata = std::collections::HashMap::from([("gabor".to_string(), card.to_string())]);
    let bytes = safetensors::serialize([("bias", tensor)], Some(metadata)).unwrap();
    let (_folder, path) = folder_with("weights.safetensors", &[]);
    fs::write(&path, &bytes).unwrap();
    assert!(read_card(&path).is_ok());
    survives(&bytes, |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(card) = read_card(&path) {
            assert!(card.normalisation.check(card.input[2]).is_ok() && !card.classes.is_empty());
        }
    });
}

#[test]
fn weights_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/weights");
    let (_folder, path) = folder_with("weights.pth", &[]);
    for name in ["zip.pth", "legacy.pth", "checkpoint.pth"] {
        let bytes = fs::read(folder.join(name)).unwrap();
        survives(&bytes, |bytes| {
            fs::write(&path, bytes).unwrap();
            let Ok(file) = WeightsFile::open(&path) else { return };
            for (name, shape) in file.tensors() {
                if let Ok(values) = file.read(name) {
                    assert_eq!(values.len(), shape.iter().product::<usize>());
                }
            }
        });
    }
}

#[test]
fn recipes_and_kernels() {
    let text = toml::to_string(&Recipe::default()).unwrap();
    survives(text.as_bytes(), |bytes| {
        let recipe = std::str::from_utf8(bytes).ok().and_then(|text| toml::from_str::<Recipe>(text).ok());
        if let Some(recipe) = recipe.filter(|recipe| recipe.check().is_ok()) {
            recipe.total_steps(1000);
        }
    });
    survives(br#"{"matmul 0123456789abcdef":"matmul 64x64","conv2d 0123456789abcdef":"direct"}"#, |bytes| {
        let _ = serde_json::from_slice::<Choices>(bytes);
    });
}

#[test]
fn logs() {
    let (_folder, path) = folder_with("log.csv", &[]);
    let progress = Progress { step: 2, batches: 1, ..Progress::default() };
    survives(b"step,loss,learning_rate,images_per_second\n1,0.5,0.001,100.0\n2,0.4,0.001,100.0\n", |bytes| {
        fs::write(&path, bytes).unwrap();
        assert!(StepLog::resume(&path, &progress).is_ok());
        fs::write(&path, bytes).unwrap();
        assert!(EpochLog::resume(&path, &progress).is_ok());
    });
}
