//! Files of weights, gabor's own and PyTorch's: which tensors they hold, and the tensors' values.
//!
//! Safetensors files and what `torch.save` writes of a state dict, as a zip file (since PyTorch 1.6) or as one pickle after
//! the other (before). A pickle is a program; [`pickle`] interprets the few instructions that state dicts are made of and
//! runs no code of anybody.

mod pickle;
mod torch;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

/// The entry of its metadata by which a safetensors file says that gabor wrote it.
pub const OWN: &str = "gabor";

/// Why the weights of a file cannot be read.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The operating system refused to read it.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is damaged, or holds something else.
    #[error("{} {message}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do, as the end of a sentence that begins with the file.
        message: String,
    },
}

/// How a tensor's elements are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    F32,
    F16,
    Bf16,
    F64,
    /// Of a type that no weight has: its name and its bytes.
    Other(String, usize),
}

impl Element {
    fn bytes(&self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(_, bytes) => *bytes,
        }
    }

    /// The element at this byte.
    fn at(&self, bytes: &[u8], place: usize) -> Option<f32> {
        fn array<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
            bytes.get(place..)?.first_chunk().copied()
        }
        Some(match self {
            Self::F32 => f32::from_le_bytes(array(bytes, place)?),
            Self::F16 => f16::from_le_bytes(array(bytes, place)?).to_f32(),
            Self::Bf16 => bf16::from_le_bytes(array(bytes, place)?).to_f32(),
            Self::F64 => f64::from_le_bytes(array(bytes, place)?) as f32,
            Self::Other(..) => return None,
        })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::Other(name, _) => name,
        })
    }
}

/// Where a tensor is in a file.
#[derive(Clone, Debug)]
struct Stored {
    element: Element,
    shape: Vec<usize>,
    /// Distance of neighbours along each axis, in elements.
    strides: Vec<usize>,
    /// The bytes of the storage that it is in, which others may share.
    storage: Range<usize>,
    /// Its first element in the storage.
    offset: usize,
    /// CRC-32 of the storage, where the file has one.
    crc: Option<u32>,
}

/// An open file of weights.
pub struct WeightsFile {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Stored>,
    metadata: BTreeMap<String, String>,
}

impl WeightsFile {
    /// Reads which tensors a file holds. Of a checkpoint that holds more than weights, those under `state_dict`, `model` and the
    /// like are taken; what wrappers put before all names (`module.`, `_orig_mod.`, `model.`) is left out.
    ///
    /// # Errors
    /// If the file cannot be read, is truncated or damaged, is no file of weights, or holds a pickle that asks for anything
    /// but tensors.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let bytes = fs::read(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
        let (tensors, metadata) =
            parse(&bytes, path).map_err(|message| WeightsError::Content { path: path.into(), message })?;
        let tensors = if metadata.contains_key(OWN) { tensors } else { without_wrappers(tensors) };
        Ok(Self { path: path.into(), bytes, tensors, metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name and shape of each tensor, in the order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), &stored.shape[..]))
    }

    /// What a safetensors file says under this name of itself.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// The values of a tensor, row-major, as f32.
    ///
    /// # Errors
    /// If there is no such tensor, it is not of floats, it is damaged, or a value is not finite.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let wrong = |message: String| WeightsError::Content { path: self.path.clone(), message };
        let stored = self.tensors.get(name).ok_or_else(|| wrong(format!("has no tensor {name}")))?;
        let storage = &self.bytes[stored.storage.clone()];
        if let Some(expected) = stored.crc {
            let mut crc = flate2::Crc::new();
            crc.update(storage);
            if crc.sum() != expected {
                let damaged =
                    format!("is damaged: tensor {name} does not have its checksum; download or save it again");
                return Err(wrong(damaged));
            }
        }
        if let element @ Element::Other(..) = &stored.element {
            return Err(wrong(format!("has tensor {name} of {element}, and weights are f32, f16, bf16 or f64")));
        }
        let values = stored.values(storage);
        let values = values.ok_or_else(|| wrong(format!("is damaged: tensor {name} is not all there")))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let value = values[at];
            return Err(wrong(format!("holds weights that are not numbers: element {at} of tensor {name} is {value}")));
        }
        Ok(values)
    }
}

impl Stored {
    /// Number of elements.
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent))
    }

    /// That every element is in the storage, and none is in it twice: else a small file could stand for any number of them.
    fn check(&self, name: &str) -> Result<(), String> {
        let held = self.storage.len() / self.element.bytes();
        let elements = self.elements().filter(|elements| *elements <= held);
        let axes = self.shape.iter().zip(&self.strides);
        let last = axes.clone().try_fold(self.offset, |last, (extent, stride)| {
            last.checked_add(extent.saturating_sub(1).checked_mul(*stride)?)
        });
        let within = elements == Some(0) || last.is_some_and(|last| last < held);
        if self.strides.iter().zip(&self.shape).any(|(stride, extent)| *stride == 0 && *extent > 1) {
            return Err(format!(
                "holds the tensor {name} expanded, with elements that stand for several: save its clone() or contiguous()"
            ));
        }
        match elements {
            Some(_) if within && self.shape.len() == self.strides.len() => Ok(()),
            _ => Err(format!(
                "is damaged: tensor {name} of shape {:?} and strides {:?} is not in its storage of {held} elements",
                self.shape, self.strides
            )),
        }
    }

    fn values(&self, storage: &[u8]) -> Option<Vec<f32>> {
        let count = self.elements()?;
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        let mut place = self.offset;
        for _ in 0..count {
            values.push(self.element.at(storage, place.checked_mul(self.element.bytes())?)?);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                place = place.checked_add(self.strides[axis])?;
                if index[axis] < self.shape[axis] {
                    break;
                }
                place = place.checked_sub(self.strides[axis].checked_mul(self.shape[axis])?)?;
                index[axis] = 0;
            }
        }
        Some(values)
    }
}

type Parsed = (BTreeMap<String, Stored>, BTreeMap<String, String>);

/// Whether bytes are those of a file that torch.save wrote.
pub(crate) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP) || bytes.starts_with(torch::MAGIC)
}

/// What zip files begin with.
const ZIP: &[u8] = b"PK";

/// The tensors of a file and its metadata; else what is wrong.
fn parse(bytes: &[u8], path: &Path) -> Result<Parsed, String> {
    if bytes.starts_with(ZIP) {
        return Ok((torch::zipped(bytes)?, BTreeMap::new()));
    }
    if bytes.starts_with(torch::MAGIC) {
        return Ok((torch::concatenated(bytes)?, BTreeMap::new()));
    }
    match SafeTensors::deserialize(bytes) {
        Ok(_) => of_safetensors(bytes).map_err(|error| format!("is no safetensors file: {error}")),
        Err(error) if bytes.get(8) == Some(&b'{') || path.extension().is_some_and(|end| end == "safetensors") => {
            Err(format!("is not a complete safetensors file ({error}); download or save it again"))
        }
        Err(_) => {
            Err("is none of the weights files that gabor reads: they are safetensors, and what torch.save writes of a \
                       state_dict(). PyTorch reads older files of its own and writes them anew: \
                       torch.save(torch.load(OLD), NEW)"
                .into())
        }
    }
}

fn of_safetensors(bytes: &[u8]) -> Result<Parsed, safetensors::SafeTensorError> {
    let (length, header) = SafeTensors::read_metadata(bytes)?;
    let stored = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let element = match info.dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F64 => Element::F64,
            other => Element::Other(format!("{other:?}").to_lowercase(), other.bitsize().div_ceil(8)),
        };
        let mut strides = vec![1; info.shape.len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * info.shape[axis];
        }
        let (start, end) = info.data_offsets;
        let storage = 8 + length + start..8 + length + end;
        (name, Stored { element, shape: info.shape.clone(), strides, storage, offset: 0, crc: None })
    };
    let tensors = header.tensors().into_iter().map(stored).collect();
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok((tensors, metadata.into_iter().collect()))
}

/// What wrappers of a network put before the names of all its tensors.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

fn without_wrappers(mut tensors: BTreeMap<String, Stored>) -> BTreeMap<String, Stored> {
    while let Some(wrapper) =
        WRAPPERS.iter().find(|wrapper| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(*wrapper)))
    {
        tensors = tensors.into_iter().map(|(name, stored)| (name[wrapper.len()..].to_string(), stored)).collect();
    }
    tensors
}

/// A few names of many, for an error.
pub(crate) fn some_of<'a>(names: impl IntoIterator<Item = Cow<'a, str>>) -> String {
    const SHOWN: usize = 4;
    let names: Vec<Cow<'_, str>> = names.into_iter().collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len() {
        0..=SHOWN => shown,
        more => format!("{shown} and {} more", more - SHOWN),
    }
}

#[cfg(test)]
pub(crate) mod tests;
