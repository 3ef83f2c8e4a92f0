//! What `torch.save` writes: a zip file with a pickle and a record for each storage, or, before PyTorch 1.6, pickles and
//! storages one after the other.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use rawzip::{CompressionMethod, ZipArchive};

use super::{
    Stored,
    pickle::{self, Id, Unpickled, Value},
    some_of,
};

/// What files before 1.6 begin with: a pickle of the number 0x1950a86a20f9469cfc6c.
pub const MAGIC: &[u8] = &[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// Where the weights are in a checkpoint that holds more.
const NESTED: [&str; 5] = ["state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema"];

/// Bytes of a storage, and their CRC-32 where there is one.
type Place = (Range<usize>, Option<u32>);

/// The tensors of a zip file.
pub fn zipped(bytes: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    let incomplete = |error: rawzip::Error| format!("is not a complete zip file ({error}): download or save it again");
    let archive = ZipArchive::from_slice(bytes).map_err(incomplete)?;
    let mut records: HashMap<String, Place> = HashMap::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(incomplete)? {
        let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
        let found = archive.get_entry(entry.wayfinder()).map_err(incomplete)?;
        let (start, end) = found.compressed_data_range();
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let range = range.map(|(start, end)| start..end).filter(|range| bytes.get(range.clone()).is_some());
        let range = range.ok_or_else(|| format!("is damaged: its record {name} is not all there"))?;
        if entry.compression_method() != CompressionMethod::STORE {
            return Err(format!("is a zip file that torch.save did not write: its record {name} is compressed"));
        }
        records.insert(name, (range, Some(entry.crc32())));
    }
    let Some(prefix) = records.keys().find_map(|name| name.strip_suffix("data.pkl")).map(String::from) else {
        return Err(
            "is a zip file without data.pkl, which torch.save did not write: give the state_dict() of a model as \
                    torch.save or safetensors write it"
                .into(),
        );
    };
    if records.contains_key(&format!("{prefix}constants.pkl")) {
        return Err("is a TorchScript program: save its weights alone, by torch.save(model.state_dict(), FILE)".into());
    }
    let content = |name: &str| records.get(&format!("{prefix}{name}")).map(|(range, _)| &bytes[range.clone()]);
    if content("byteorder").is_some_and(|order| order != b"little") {
        return Err("was written on a big-endian machine: save it anew on another".into());
    }
    let (unpickled, _) = pickle::load(content("data.pkl").unwrap_or_default())?;
    tensors(&unpickled, |key| records.get(&format!("{prefix}data/{key}")).cloned())
}

/// The tensors of a file before 1.6: after the magic number the version, properties of the machine, the object, the keys of the
/// storages, and in their order the number of elements and the elements of each.
pub fn concatenated(bytes: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    let mut at = MAGIC.len();
    let mut next = || {
        let (unpickled, length) = pickle::load(bytes.get(at..).unwrap_or_default())?;
        at += length;
        Ok::<_, String>(unpickled)
    };
    let [_version, _machine, object, keys] = [next()?, next()?, next()?, next()?];
    let sizes = storages(&object);
    let damaged = || "is damaged: its storages are not all there; download or save it again".to_string();
    let Value::Sequence(keys_in_order) = keys.root() else { return Err(damaged()) };
    let mut places: HashMap<&str, Place> = HashMap::new();
    for key in keys_in_order {
        let key = keys.text(*key).ok_or_else(damaged)?;
        let size = sizes.get(key).ok_or_else(damaged)?;
        let elements = bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|count| u64::from_le_bytes(*count));
        let length = elements.and_then(|elements| usize::try_from(elements).ok()?.checked_mul(*size));
        let start = at + 8;
        let end = length.and_then(|length| start.checked_add(length)).filter(|end| *end <= bytes.len());
        at = end.ok_or_else(damaged)?;
        places.insert(key, (start..at, None));
    }
    tensors(&object, |key| places.get(key).cloned())
}

/// Bytes of an element of each storage, by its key.
fn storages<'a>(object: &Unpickled<'a>) -> HashMap<&'a str, usize> {
    let sized = |value: &Value<'a>| match value {
        Value::Storage(storage) => Some((storage.key, storage.element.bytes())),
        _ => None,
    };
    object.values().filter_map(sized).collect()
}

/// The dict of tensors that a pickle is or holds.
fn state_dict<'a>(unpickled: &'a Unpickled<'_>) -> Result<&'a [(Id, Id)], String> {
    let Value::Dict(root) = unpickled.root() else {
        return Err("holds no dict of tensors: give what torch.save writes of a state_dict()".into());
    };
    let has_tensors =
        |items: &[(Id, Id)]| items.iter().any(|(_, value)| matches!(unpickled.get(*value), Value::Tensor(_)));
    if has_tensors(root) {
        return Ok(root);
    }
    for name in NESTED {
        let found = root.iter().find(|(key, _)| unpickled.text(*key) == Some(name));
        if let Some(Value::Dict(items)) = found.map(|(_, value)| unpickled.get(*value))
            && has_tensors(items)
        {
            return Ok(items);
        }
    }
    let keys = some_of(root.iter().filter_map(|(key, _)| unpickled.text(*key)).map(Into::into));
    Err(format!("holds no tensors, neither by itself nor under {}; it has {keys}", NESTED.join(", ")))
}

fn tensors(
    unpickled: &Unpickled<'_>,
    place: impl Fn(&str) -> Option<Place>,
) -> Result<BTreeMap<String, Stored>, String> {
    let mut tensors = BTreeMap::new();
    for (key, value) in state_dict(unpickled)? {
        let (Some(name), Value::Tensor(tensor)) = (unpickled.text(*key), unpickled.get(*value)) else { continue };
        let key = tensor.storage.key;
        let lost = || format!("is damaged: the storage {key} of tensor {name} is not there; download or save it again");
        let (storage, crc) = place(key).ok_or_else(lost)?;
        let (element, shape, strides) = (tensor.storage.element.clone(), tensor.shape.clone(), tensor.strides.clone());
        let length = tensor.storage.elements.checked_mul(element.bytes()).ok_or_else(lost)?;
        if length > storage.len() {
            return Err(lost());
        }
        let stored = Stored { element, shape, strides, storage, offset: tensor.offset, crc };
        stored.check(name)?;
        tensors.insert(name.to_string(), stored);
    }
    Ok(tensors)
}
