//! A weights file that is read a tensor at a time: it is never in memory as a whole.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};

use super::{Card, TrainError};
use crate::{
    nn::Parameters,
    plan::Executor,
    tensor::{Shape, Tensor},
    weights::{OWN, is_torch},
};

/// Bytes of the length of the header, which comes first.
const LENGTH: usize = 8;
/// Bytes of a header, at most: as the library has it.
const MOST_HEADER: u64 = 100_000_000;
/// Bytes by which files of PyTorch are known.
const HEAD: u64 = 64;

/// A weights file.
pub(super) struct Weights {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the tensors begin.
    data: u64,
    pub card: Card,
}

impl Weights {
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let cannot_read = |source| TrainError::File { path: path.to_path_buf(), source };
        let broken = |message: String| TrainError::Checkpoint { path: path.to_path_buf(), message };
        let file = File::open(path).map_err(cannot_read)?;
        let mut head = Vec::new();
        (&file).take(HEAD).read_to_end(&mut head).map_err(cannot_read)?;
        if is_torch(&head) {
            return Err(broken(
                "is a file of PyTorch, which does not say what network it is of: begin a run with it, by `pretrained`"
                    .into(),
            ));
        }
        let (metadata, data) = header(&file, &head).map_err(|error| {
            broken(format!("is not a complete safetensors file ({error}); use another checkpoint of the run"))
        })?;
        let entry = metadata.metadata().as_ref().and_then(|entries| entries.get(OWN)).ok_or_else(|| {
            broken(
                "has no gabor metadata, as it was written by another program: begin a run with it, by `pretrained`"
                    .into(),
            )
        })?;
        let card: Card = serde_json::from_str(entry).map_err(|error| broken(format!("its gabor metadata: {error}")))?;
        card.check()
            .map_err(|error| broken(format!("its gabor metadata: {error}; use another checkpoint of the run")))?;
        Ok(Self { path: path.to_path_buf(), file, metadata, data, card })
    }

    /// The tensor of that name, which must have that shape.
    pub fn tensor(&self, name: &str, shape: &Shape) -> Result<Tensor, TrainError> {
        let broken = |message: String| TrainError::Checkpoint { path: self.path.clone(), message };
        let info = self.metadata.info(name).ok_or_else(|| {
            broken(format!("has no tensor {name}: it is a checkpoint of another model ({})", self.card.model))
        })?;
        if info.dtype != Dtype::F32 || info.shape != shape[..] {
            return Err(broken(format!(
                "tensor {name} is {:?} {:?} and this model needs f32 {shape}: it is a checkpoint of another model ({})",
                info.dtype, info.shape, self.card.model
            )));
        }
        let values = self.values(info)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(broken(format!(
                "element {at} of tensor {name} is {}: the weights are damaged; use another checkpoint of the run",
                values[at]
            )));
        }
        Ok(Tensor::f32(shape, values))
    }

    /// All tensors with their names, in the order of the file.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainError> {
        let shape = |name: &str| self.metadata.info(name).map_or_else(Vec::new, |info| info.shape.clone());
        let tensor = |name: String| self.tensor(&name, &shape(&name).into()).map(|tensor| (name, tensor));
        self.metadata.offset_keys().into_iter().map(tensor).collect()
    }

    fn values(&self, info: &TensorInfo) -> Result<Vec<f32>, TrainError> {
        let (start, end) = info.data_offsets;
        let mut values = vec![0.0f32; (end - start) / size_of::<f32>()];
        let mut file = &self.file;
        let read = file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)));
        read.map_err(|source| TrainError::File { path: self.path.clone(), source })?;
        Ok(values)
    }

    /// Sets parameters, whose variables an executor has, to what the file holds.
    pub fn fill(&self, parameters: &Parameters, executor: &mut dyn Executor) -> Result<(), TrainError> {
        for parameter in parameters.iter() {
            let variable = parameters.blocks()[parameter.block].variable;
            executor.write(variable, parameter.offset, &self.tensor(&parameter.name, &parameter.shape)?)?;
        }
        Ok(())
    }
}

/// What a file says of its tensors, and where they begin. `head` is how it begins.
fn header(file: &File, head: &[u8]) -> Result<(Metadata, u64), String> {
    let cut_off = || "it is cut off".to_string();
    let length: [u8; LENGTH] = head.get(..LENGTH).and_then(|length| length.try_into().ok()).ok_or_else(cut_off)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER {
        return Err("its header is too large".into());
    }
    let data = LENGTH as u64 + length;
    let whole = file.metadata().map_err(|error| error.to_string())?.len();
    if whole < data {
        return Err(cut_off());
    }
    let mut text = vec![0; length as usize];
    let mut reader = file;
    reader
        .seek(SeekFrom::Start(LENGTH as u64))
        .and_then(|_| reader.read_exact(&mut text))
        .map_err(|error| error.to_string())?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut end = 0;
    for name in metadata.offset_keys() {
        let Some(TensorInfo { dtype, shape, data_offsets, .. }) = metadata.info(&name) else { continue };
        let elements = shape.iter().try_fold(1usize, |all, extent| all.checked_mul(*extent));
        let bits = elements.and_then(|elements| elements.checked_mul(dtype.bitsize()));
        if data_offsets.0 != end || data_offsets.1 < end || bits != Some(8 * (data_offsets.1 - end)) {
            return Err(format!("tensor {name} is not where or as large as its header says"));
        }
        end = data_offsets.1;
    }
    match whole.cmp(&(data + end as u64)) {
        std::cmp::Ordering::Less => Err(cut_off()),
        std::cmp::Ordering::Equal => Ok((metadata, data)),
        std::cmp::Ordering::Greater => Err("something is behind its tensors".into()),
    }
}
