//! Variables: the state that graphs share.

use crate::tensor::DType;

/// Number of a variable in its [`Variables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariableId(pub usize);

/// The state that graphs over one model share: flat blocks of parameters, optimizer moments and running statistics.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    list: Vec<Variable>,
}

/// One variable: a block of elements that outlives a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// What it holds, such as `parameters`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub elements: usize,
}

impl Variables {
    /// No variables yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable; it starts as zeros.
    pub fn add(&mut self, name: impl Into<String>, dtype: DType, elements: usize) -> VariableId {
        self.list.push(Variable { name: name.into(), dtype, elements });
        VariableId(self.list.len() - 1)
    }

    /// Makes a variable `elements` long: flat blocks grow while a model is built, before anything runs.
    pub fn grow(&mut self, id: VariableId, elements: usize) {
        let variable = &mut self.list[id.0];
        variable.elements = variable.elements.max(elements);
    }

    /// The variable of that number.
    pub fn get(&self, id: VariableId) -> &Variable {
        &self.list[id.0]
    }

    /// All variables with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (VariableId, &Variable)> {
        self.list.iter().enumerate().map(|(at, v)| (VariableId(at), v))
    }
}
