//! The tensors of a session by name: parameters, moments and averages.

use super::{Session, TrainError};
use crate::{
    nn::Role,
    tensor::{Shape, Tensor, TensorType},
};

/// What the names of averages begin with.
pub(super) const AVERAGE: &str = "average/";

impl Session {
    /// Every parameter and, as `moment1/NAME` and `moment2/NAME`, the optimizer's moments of it, and as `average/NAME` its moving
    /// average, from the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensors(&mut self) -> Result<Vec<(String, Tensor)>, TrainError> {
        let mut tensors = Vec::new();
        let blocks = self.parameters.blocks().to_vec().into_iter().enumerate();
        for (at, block) in blocks.filter(|(_, block)| block.role != Role::Given) {
            let mut sources = vec![(String::new(), block.variable)];
            if let Some(update) = self.state.updates.iter().find(|update| update.block == at) {
                let moments = update.moments.iter().enumerate();
                sources.extend(moments.map(|(n, id)| (format!("moment{}/", n + 1), *id)));
                sources.extend(update.average.map(|id| (AVERAGE.to_string(), id)));
            }
            for (prefix, id) in sources {
                let content = self.executor.read(id)?;
                let Some(content) = content.as_f32() else { continue };
                for parameter in self.parameters.iter().filter(|p| p.block == at) {
                    let values = content[parameter.offset..][..parameter.shape.elements()].to_vec();
                    tensors.push((format!("{prefix}{}", parameter.name), Tensor::f32(&parameter.shape, values)));
                }
            }
        }
        Ok(tensors)
    }

    /// Sets parameters and moments to tensors of the names that [`Session::tensors`] gives; all others stay as they are.
    ///
    /// # Errors
    /// If there is no such name, the shape is another, or the device fails; nothing has changed then, unless the device
    /// failed.
    pub fn set_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<(), TrainError> {
        let mut places = Vec::new();
        for (name, tensor) in tensors {
            let (kind, of) = name.split_once('/').map_or(("", name.as_str()), |(kind, of)| (kind, of));
            let parameter = self.parameters.iter().find(|parameter| parameter.name == of);
            let update = |block: usize| self.state.updates.iter().find(move |update| update.block == block);
            let variable = parameter.and_then(|parameter| match kind {
                "" => Some(self.parameters.blocks()[parameter.block].variable),
                "average" => update(parameter.block)?.average,
                moment => {
                    let number: usize = moment.strip_prefix("moment")?.parse().ok()?;
                    update(parameter.block)?.moments.get(number.checked_sub(1)?).copied()
                }
            });
            let Some((parameter, variable)) = parameter.zip(variable) else {
                let message = format!("{} has no parameter {name}", self.model.name);
                return Err(TrainError::Setting(message));
            };
            if tensor.ty() != TensorType::f32(&parameter.shape) {
                let (given, expected) = (tensor.ty(), TensorType::f32(&parameter.shape));
                return Err(TrainError::Setting(format!("the parameter {name} is {expected}, and not {given}")));
            }
            places.push((variable, parameter.offset));
        }
        self.awaits_data = false;
        for ((variable, offset), (_, tensor)) in places.into_iter().zip(tensors) {
            self.executor.write(variable, offset, tensor)?;
        }
        Ok(())
    }

    /// Sets all variables from what `find` gives for each name that [`Session::tensors`] has.
    pub(super) fn restore(
        &mut self,
        mut find: impl FnMut(&str, &Shape) -> Result<Tensor, TrainError>,
    ) -> Result<(), TrainError> {
        self.awaits_data = false;
        for parameter in self.parameters.iter() {
            let block = &self.parameters.blocks()[parameter.block];
            let tensor = find(&parameter.name, &parameter.shape)?;
            self.executor.write(block.variable, parameter.offset, &tensor)?;
            let update = self.state.updates.iter().find(|update| update.block == parameter.block);
            let moments = update.map(|update| &update.moments);
            for (n, id) in moments.into_iter().flatten().enumerate() {
                let tensor = find(&format!("moment{}/{}", n + 1, parameter.name), &parameter.shape)?;
                self.executor.write(*id, parameter.offset, &tensor)?;
            }
            if let Some(id) = update.and_then(|update| update.average) {
                let tensor = find(&format!("{AVERAGE}{}", parameter.name), &parameter.shape)?;
                self.executor.write(id, parameter.offset, &tensor)?;
            }
        }
        Ok(())
    }
}
