//! The parameters of a model: flat blocks, and where each lies in them.

use std::collections::HashMap;

use super::{Group, Groups, Init};
use crate::{
    graph::{VariableId, Variables},
    tensor::{DType, Shape, Tensor},
};

/// Elements at which every parameter begins a multiple of: 256 bytes, the coarsest alignment that a device may demand
/// of a binding's offset.
const ALIGNMENT: usize = 64;

/// What becomes of a parameter in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The optimizer changes it along its gradient.
    Trained,
    /// It follows statistics of the batches, as the running mean and variance of batch norm do.
    Statistic,
    /// It is of another network, such as a teacher, and stays as it was given.
    Given,
}

/// A named tensor of a model.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Path of its layer and its name there, such as `stage1.0.conv1.weight`.
    pub name: String,
    /// Extents.
    pub shape: Shape,
    /// How it begins.
    pub init: Init,
    /// What becomes of it.
    pub role: Role,
    /// The block that holds it.
    pub block: usize,
    /// Its first element there.
    pub offset: usize,
}

/// A flat variable that holds parameters of one role side by side.
#[derive(Clone, Debug)]
pub struct Block {
    /// The variable.
    pub variable: VariableId,
    /// What becomes of its parameters.
    pub role: Role,
    /// How they are trained, all alike.
    pub group: Group,
    /// Number of elements, padding included.
    pub elements: usize,
}

/// The parameters of a model, in flat blocks. Graphs built over one `Parameters` share them by name.
#[derive(Clone, Debug)]
pub struct Parameters {
    variables: Variables,
    list: Vec<Parameter>,
    by_name: HashMap<String, usize>,
    blocks: Vec<Block>,
    block_limit: usize,
    groups: Groups,
    holds_back: bool,
}

impl Parameters {
    /// No parameters yet. A block holds at most `block_limit` elements, unless a single parameter has more.
    pub fn new(block_limit: usize) -> Self {
        Self::with_groups(block_limit, Groups::default())
    }

    /// As [`Parameters::new`], in blocks of at most 16 MiB, unless a single parameter has more: of those that are prepared for
    /// inference alone a device can let go one after the other ([`Executor::freeze`](crate::plan::Executor::freeze)).
    pub fn for_inference(block_limit: usize) -> Self {
        const BLOCK: usize = 4 << 20;
        Self::new(block_limit.min(BLOCK))
    }

    /// As [`Parameters::new`], where parameters that are trained differently lie in different blocks.
    pub fn with_groups(block_limit: usize, groups: Groups) -> Self {
        let (variables, list, by_name, blocks) = (Variables::new(), Vec::new(), HashMap::new(), Vec::new());
        Self { variables, list, by_name, blocks, block_limit, groups, holds_back: false }
    }

    /// Number of the parameter of that name, added where there is none.
    ///
    /// # Errors
    /// If there is one of another shape.
    pub(super) fn declare(&mut self, name: &str, shape: Shape, init: Init, role: Role) -> Result<usize, String> {
        if let Some(&at) = self.by_name.get(name) {
            let known = &self.list[at].shape;
            return if *known == shape { Ok(at) } else { Err(format!("{name} has shape {known}, not {shape}")) };
        }
        let elements = shape.elements().next_multiple_of(ALIGNMENT);
        let group = self.groups.of(name, &shape);
        let block = self.block_for(role, group, elements);
        let offset = self.blocks[block].elements;
        self.blocks[block].elements += elements;
        self.variables.grow(self.blocks[block].variable, offset + elements);
        self.by_name.insert(name.to_string(), self.list.len());
        self.list.push(Parameter { name: name.to_string(), shape, init, role, block, offset });
        Ok(self.list.len() - 1)
    }

    fn block_for(&mut self, role: Role, group: Group, elements: usize) -> usize {
        let alike = |block: &Block| block.role == role && (role != Role::Trained || block.group == group);
        let last = self.blocks.iter().rposition(alike);
        if let Some(at) = last.filter(|at| self.blocks[*at].elements + elements <= self.block_limit) {
            return at;
        }
        let name = match role {
            Role::Trained => "parameters",
            Role::Statistic => "statistics",
            Role::Given => "given",
        };
        let variable = self.variables.add(name, DType::F32, 0);
        self.blocks.push(Block { variable, role, group, elements: 0 });
        self.blocks.len() - 1
    }

    /// All parameters of the model, in the order of their layers.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter().filter(|parameter| parameter.role != Role::Given)
    }

    /// Those of another network beside it.
    pub fn given(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter().filter(|parameter| parameter.role == Role::Given)
    }

    /// The parameter of that number.
    pub fn get(&self, at: usize) -> &Parameter {
        &self.list[at]
    }

    /// The flat variables.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Offset and shape of each parameter in a block, in order.
    pub fn tensors_of(&self, block: usize) -> Vec<(usize, Shape)> {
        let of_block = self.list.iter().filter(|parameter| parameter.block == block);
        of_block.map(|parameter| (parameter.offset, parameter.shape.clone())).collect()
    }

    /// All variables, the blocks among them.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Adds a variable that accompanies the parameters, such as an optimizer's moment.
    pub fn add_variable(&mut self, name: impl Into<String>, elements: usize) -> VariableId {
        self.variables.add(name, DType::F32, elements)
    }

    /// The same parameters with other variables in place of those of some blocks, given by their numbers.
    pub fn in_variables(&self, variables: &[(usize, VariableId)]) -> Self {
        let mut others = self.clone();
        for (block, variable) in variables {
            others.blocks[*block].variable = *variable;
        }
        others
    }

    /// Number of numbers that have gradients, frozen ones included.
    pub fn trained(&self) -> usize {
        self.list.iter().filter(|p| p.role == Role::Trained).map(|p| p.shape.elements()).sum()
    }

    /// Leaves the parameters of late groups as they are in the graphs that are built from now on, or trains them too.
    pub fn hold_back(&mut self, holds_back: bool) {
        self.holds_back = holds_back;
    }

    /// Whether the parameters of a block are trained, and not left as they are.
    pub fn is_trained(&self, block: usize) -> bool {
        let Block { role, group, .. } = &self.blocks[block];
        *role == Role::Trained && !group.frozen && !(self.holds_back && group.late)
    }

    /// The layer of the last weight of two axes: in a classifier the one that makes the logits.
    pub fn last_dense(&self) -> Option<&str> {
        let last = self.list.iter().rfind(|parameter| parameter.shape.rank() == 2);
        last.and_then(|weight| weight.name.strip_suffix(".weight"))
    }

    /// The names of the weights of all layers, convolutions and dense ones, but the last dense one.
    pub fn hidden_matrices(&self) -> Vec<String> {
        let weights = self.iter().filter(|parameter| parameter.role == Role::Trained && parameter.shape.rank() > 1);
        let layers = weights.filter_map(|weight| Some((weight, weight.name.strip_suffix(".weight")?)));
        let hidden = layers.filter(|(_, layer)| Some(*layer) != self.last_dense());
        hidden.map(|(weight, _)| weight.name.clone()).collect()
    }

    /// Number of those that are left as they are.
    pub fn frozen(&self) -> usize {
        let frozen = |p: &&Parameter| p.role == Role::Trained && !self.is_trained(p.block);
        self.list.iter().filter(frozen).map(|p| p.shape.elements()).sum()
    }

    /// The groups by which parameters are laid out.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The initial content of each block for this seed.
    pub fn initial(&self, seed: u64) -> Vec<Tensor> {
        let mut contents: Vec<Vec<f32>> = self.blocks.iter().map(|b| vec![0.0; b.elements]).collect();
        for (at, parameter) in self.list.iter().enumerate() {
            let values = parameter.init.sample(&parameter.shape, seed, at as u64);
            contents[parameter.block][parameter.offset..][..values.len()].copy_from_slice(&values);
        }
        contents.into_iter().map(|data| Tensor::f32([data.len()], data)).collect()
    }
}
