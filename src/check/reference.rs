use std::{collections::BTreeMap, path::Path};

use safetensors::SafeTensors;

use crate::tensor::Tensor;

/// One case of a file of PyTorch's values: its tensors by name and its parameters.
pub(crate) struct Case {
    pub name: String,
    pub parameters: serde_json::Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("case {} has no tensor {name}", self.name)).clone()
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// The cases of `tests/pytorch/{family}.safetensors`.
pub(crate) fn reference(family: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/pytorch/{family}.safetensors"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let parameters = metadata.metadata().clone().expect("the parameters of the cases");
    let mut cases: BTreeMap<String, Case> = parameters
        .into_iter()
        .map(|(name, json)| {
            let parameters = serde_json::from_str(&json).expect("parameters as JSON");
            (name.clone(), Case { name, parameters, tensors: BTreeMap::new() })
        })
        .collect();
    for (name, view) in file.tensors() {
        let (case, tensor) = name.split_once('/').expect("a name of the form case/tensor");
        let data = view.data();
        let tensor_value = match view.dtype() {
            safetensors::Dtype::F32 => Tensor::f32(view.shape(), bytemuck::pod_collect_to_vec(data)),
            safetensors::Dtype::I64 => {
                let wide: Vec<i64> = bytemuck::pod_collect_to_vec(data);
                Tensor::u32(view.shape(), wide.into_iter().map(|v| v as u32).collect())
            }
            other => panic!("tensor {name} has element type {other:?}"),
        };
        cases.get_mut(case).expect("a case with parameters").tensors.insert(tensor.to_string(), tensor_value);
    }
    cases.into_values().collect()
}
