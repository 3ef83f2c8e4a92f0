//! Files that PyTorch wrote (`tests/pytorch/make_weights.py`), and files that nobody should have written.

use std::fs;

use rawzip::ZipArchiveWriter;
use safetensors::tensor::TensorView;

use super::*;

fn of_pytorch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/weights").join(name)
}

fn open(bytes: &[u8]) -> Result<WeightsFile, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    fs::write(&path, bytes).unwrap();
    WeightsFile::open(&path)
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let error = open(bytes).err().expect("it must be refused").to_string();
    for word in words {
        assert!(error.contains("weights.pth") && error.contains(word), "no {word:?} in {error:?}");
    }
}

/// A zip file as `torch.save` makes it, of this pickle and these storages.
fn zipped(pickle: &[u8], storages: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    let storages = storages.iter().map(|(key, content)| (format!("archive/data/{key}"), &content[..]));
    for (name, content) in std::iter::once(("archive/data.pkl".to_string(), pickle)).chain(storages) {
        let (mut entry, config) = archive.new_file(&name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        std::io::copy(&mut &content[..], &mut writer).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// What `torch.save` writes of a state dict of f32 tensors: name, shape in PyTorch's layout, values.
pub(crate) fn saved(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    fn int(pickle: &mut Vec<u8>, number: usize) {
        pickle.push(b'J');
        pickle.extend((number as u32).to_le_bytes());
    }
    fn text(pickle: &mut Vec<u8>, text: &str) {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    }
    fn ints(pickle: &mut Vec<u8>, numbers: &[usize]) {
        pickle.push(b'(');
        numbers.iter().for_each(|number| int(pickle, *number));
        pickle.push(b't');
    }
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let mut storages = Vec::new();
    for (at, (name, shape, values)) in tensors.iter().enumerate() {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &at.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, values.len());
        pickle.extend(b"tQ");
        int(&mut pickle, 0);
        ints(&mut pickle, shape);
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product());
        ints(&mut pickle, &strides.collect::<Vec<usize>>());
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        storages.push((at.to_string(), values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    pickle.extend(b"u.");
    zipped(&pickle, &storages)
}

#[test]
fn what_pytorch_writes_is_read() {
    for name in ["zip.pth", "legacy.pth", "checkpoint.pth"] {
        let file = WeightsFile::open(&of_pytorch(name)).unwrap();
        let shape = |name: &str| file.tensors().find(|(given, _)| *given == name).map(|(_, shape)| shape.to_vec());
        let expect = |tensor: &str, shape_of_it: &[usize], values: &[f32]| {
            assert_eq!(shape(tensor).as_deref(), Some(shape_of_it), "{name}: {tensor}");
            assert_eq!(file.read(tensor).unwrap(), values, "{name}: {tensor}");
        };
        expect("plain", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        expect("transposed", &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        expect("part", &[2, 3], &[8.0, 9.0, 10.0, 14.0, 15.0, 16.0]);
        expect("half", &[3], &[0.0, 0.25, 0.5]);
        expect("brain", &[3], &[0.0, 0.25, 0.5]);
        expect("double", &[3], &[0.0, 1.0 / 3.0, 2.0 / 3.0]);
        expect("parameter", &[2], &[1.5, -2.5]);
        expect("scalar", &[], &[7.0]);
        assert_eq!(file.tensors().count(), 9);
        let error = file.read("bn.num_batches_tracked").unwrap_err().to_string();
        assert!(error.contains("of i64, and weights are f32"), "{error}");
    }
}

#[test]
fn a_pickle_that_wants_to_run_code_is_refused_by_the_name_of_it() {
    let error = WeightsFile::open(&of_pytorch("command.pth")).err().unwrap().to_string();
    assert!(error.contains("asks for posix.system") && error.contains("nothing was run"), "{error}");
    assert!(!Path::new("gabor-ran-this").exists());
    for (pickle, name) in [
        (&b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."[..], "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x011\x85R.", "torch.storage._load_from_bytes"),
        (b"\x80\x02cargparse\nNamespace\n)\x81.", "argparse.Namespace"),
    ] {
        refused(&zipped(pickle, &[]), &[name, "state_dict()"]);
    }
    // Of the first protocol, whose instruction `i` calls too.
    refused(&zipped(b"(S'ls'\nios\nsystem\n.", &[]), &["instruction 0x53"]);
}

#[test]
fn files_cut_short_are_errors() {
    for name in ["zip.pth", "legacy.pth"] {
        let whole = fs::read(of_pytorch(name)).unwrap();
        for end in (0..whole.len()).step_by(7) {
            // The zip file's comment and a last storage that no tensor needs may be cut: all tensors are there then.
            if let Ok(file) = open(&whole[..end]) {
                assert!(file.tensors().any(|(name, _)| file.read(name).is_err()), "{name} cut at {end}");
            }
        }
    }
    refused(&fs::read(of_pytorch("zip.pth")).unwrap()[..2000], &["not a complete zip file"]);
}

#[test]
fn a_flipped_bit_is_told_by_the_checksum() {
    let mut bytes = saved(&[("a".into(), vec![2], vec![1.0, 2.0])]);
    let place = bytes.windows(4).position(|four| four == 2.0f32.to_le_bytes()).unwrap();
    bytes[place] ^= 1;
    let error = open(&bytes).unwrap().read("a").unwrap_err().to_string();
    assert!(error.contains("tensor a does not have its checksum"), "{error}");
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let error = WeightsFile::open(&of_pytorch("nan.pth")).unwrap().read("plain").unwrap_err().to_string();
    assert!(error.contains("element 1 of tensor plain is NaN"), "{error}");
}

#[test]
fn tensors_outside_of_their_storages_are_refused() {
    let tensor = |shape: Vec<usize>, values| saved(&[("a".into(), shape, values)]);
    refused(&tensor(vec![3], vec![1.0, 2.0]), &["tensor a of shape [3]", "storage of 2 elements"]);
    refused(&tensor(vec![0xffff_ffff, 0xffff_ffff, 0xffff_ffff], vec![1.0]), &["is damaged"]);
    // One element that stands for a thousand.
    let bytes = zipped(
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\
          \x03\0\0\0cpuK\x01tQK\0M\xe8\x03\x85K\0\x85\x89NtRs.",
        &[("0".into(), vec![0; 4])],
    );
    refused(&bytes, &["the tensor a expanded"]);
}

#[test]
fn a_deeply_nested_pickle_is_no_danger() {
    let mut pickle = b"\x80\x02}X\x01\0\0\0a".to_vec();
    pickle.push(b')');
    pickle.extend(std::iter::repeat_n(0x85, 1 << 20));
    pickle.extend(b"s.");
    refused(&zipped(&pickle, &[]), &["holds no tensors"]);
}

#[test]
fn other_files_are_told_apart() {
    refused(b"", &["none of the weights files that gabor reads"]);
    refused(b"\x89HDF\r\n\x1a\n0000000000000000", &["none of the weights files", "torch.save"]);
    refused(&zipped(b"\x80\x02]K\x01a.", &[]), &["holds no dict of tensors"]);
    refused(&zipped(b"\x80\x02}X\x05\0\0\0epochK\x03s.", &[]), &["holds no tensors", "it has epoch"]);
    let mut other = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut other);
    archive.new_dir("a/").create().unwrap();
    archive.finish().unwrap();
    refused(&other, &["zip file without data.pkl"]);
}

#[test]
fn safetensors_of_each_type_are_read() {
    let wide: Vec<u8> = [0.5f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let half: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    let tensors = [("wide", Dtype::F64, &wide), ("half", Dtype::BF16, &half)];
    let views = tensors.map(|(name, dtype, bytes)| (name, TensorView::new(dtype, vec![2], bytes).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    let file = open(&bytes).unwrap();
    for name in ["wide", "half"] {
        assert_eq!(file.read(name).unwrap(), [0.5, -2.0]);
    }
    refused(&bytes[..bytes.len() - 1], &["not a complete safetensors file"]);
}
