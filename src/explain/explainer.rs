//! A trained network whose inside can be looked at.

use std::{collections::HashMap, path::Path};

use super::{
    ExplainError, Map, MapLayer, class_activation, grad_cam_graph,
    layers::{find, map_layers},
};
use crate::{
    data::Normalisation,
    graph::Graph,
    models::Model,
    nn::{Parameter, Parameters},
    plan::{Executor, ExecutorError, Outputs, Plan, PlanOptions, ProgramId},
    tensor::Tensor,
    train::{load_parameters, network_graph, open_model, read_card},
};

/// A trained network whose inside can be looked at, an image at a time.
pub struct Explainer {
    executor: Box<dyn Executor>,
    model: Model,
    normalisation: Normalisation,
    parameters: Parameters,
    layers: Vec<MapLayer>,
    programs: HashMap<Looked, ProgramId>,
}

/// What a program tells of the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Looked {
    /// What this layer makes, and the gradient by it.
    GradCam(String),
    /// What these layers make.
    Layers(Vec<String>),
}

/// What some channels of a layer make of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMaps {
    /// Path of the layer.
    pub layer: String,
    /// How many channels it has.
    pub channels: usize,
    /// Channels of the largest means, the largest first, and what they make.
    pub maps: Vec<(usize, Map)>,
}

/// The filters of the first convolution, over the colours of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Filters {
    /// Name of the weight.
    pub name: String,
    /// Height, width, colours and number of the filters.
    pub shape: [usize; 4],
    /// Their weights, `[height, width, colours, filters]`.
    pub weights: Vec<f32>,
}

impl Explainer {
    /// Loads the weights file that a run left behind.
    ///
    /// # Errors
    /// If the file is missing, truncated, or its model or task is not built in.
    pub fn load(path: &Path, executor: Box<dyn Executor>) -> Result<Self, ExplainError> {
        Self::with_model(path, open_model(path)?.0, executor)
    }

    /// Loads the weights of a model of your own.
    ///
    /// # Errors
    /// If the file is missing, truncated, or of another model.
    pub fn with_model(path: &Path, model: Model, mut executor: Box<dyn Executor>) -> Result<Self, ExplainError> {
        let normalisation = read_card(path)?.normalisation;
        let mut parameters = Parameters::new(executor.target().block_limit());
        let layers = map_layers(&model, &network_graph(&model, &mut parameters, 1, &normalisation)?);
        executor.declare(parameters.variables())?;
        load_parameters(path, &parameters, executor.as_mut())?;
        Ok(Self { executor, model, normalisation, parameters, layers, programs: HashMap::new() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The layers and blocks whose outputs are laid out as the image is, in the order in which these are made.
    pub fn layers(&self) -> &[MapLayer] {
        &self.layers
    }

    /// The last of these layers, which Grad-CAM is usually taken of.
    ///
    /// # Errors
    /// If there is none.
    pub fn default_layer(&self) -> Result<&MapLayer, ExplainError> {
        self.layers.last().ok_or_else(|| ExplainError::NoMaps { model: self.model.name.clone() })
    }

    /// The one of that path.
    ///
    /// # Errors
    /// If there is none, with the names that there are.
    pub fn layer(&self, path: &str) -> Result<&MapLayer, ExplainError> {
        self.default_layer()?;
        find(&self.layers, path)
    }

    /// Grad-CAM of an image, u8 `[height, width, channels]`: how much each place of a layer speaks for a class, from 0 on.
    ///
    /// # Errors
    /// If there is no such layer or class, the pixels are not those of one image, or the device fails.
    pub fn grad_cam(&mut self, image: &[u8], class: usize, layer: &str) -> Result<Map, ExplainError> {
        let layer = self.layer(layer)?.clone();
        let images = self.image(image)?;
        let classes = self.model.task.output(1).map_or(0, |ty| ty.elements());
        if class >= classes {
            return Err(ExplainError::NoClass { class, classes });
        }
        let mut chosen = vec![0.0; classes];
        chosen[class] = 1.0;
        let program = self.program(Looked::GradCam(layer.path.clone()))?;
        let outputs = self.run(program, &[("images", &images), ("classes", &Tensor::f32([1, classes], chosen))])?;
        let [activations, gradients] = ["activations", "gradients"].map(|name| layer.places(floats(&outputs, name)));
        let values = class_activation(activations, gradients, layer.channels);
        Ok(Map { height: layer.height, width: layer.width, values })
    }

    /// What some layers make of an image, u8 `[height, width, channels]`: of each the `most` channels of the largest mean.
    ///
    /// # Errors
    /// As [`Self::grad_cam`].
    pub fn feature_maps(
        &mut self,
        image: &[u8],
        layers: &[String],
        most: usize,
    ) -> Result<Vec<FeatureMaps>, ExplainError> {
        let found = layers.iter().map(|layer| self.layer(layer).cloned()).collect::<Result<Vec<MapLayer>, _>>()?;
        let images = self.image(image)?;
        if layers.is_empty() {
            return Ok(Vec::new());
        }
        let program = self.program(Looked::Layers(layers.to_vec()))?;
        let outputs = self.run(program, &[("images", &images)])?;
        let of = |layer: &MapLayer| strongest(layer, layer.places(floats(&outputs, &layer.path)), most);
        Ok(found.iter().map(of).collect())
    }

    /// The filters of the first convolution.
    ///
    /// # Errors
    /// If the network does not begin with one over the colours of the image, or the device fails.
    pub fn filters(&mut self) -> Result<Filters, ExplainError> {
        let of_convolution = |parameter: &&Parameter| parameter.shape.rank() == 4;
        let first = self.parameters.iter().find(of_convolution).map(|parameter| (parameter, &parameter.shape[..]));
        let Some((parameter, &[height, width, colours, filters])) = first else {
            return Err(ExplainError::NoFilters { model: self.model.name.clone() });
        };
        if colours != self.model.input[2] {
            return Err(ExplainError::NoFilters { model: self.model.name.clone() });
        }
        let block = self.executor.read(self.parameters.blocks()[parameter.block].variable)?;
        let weights = block.as_f32().and_then(|all| all.get(parameter.offset..)).unwrap_or_default();
        let weights = weights.iter().take(parameter.shape.elements()).copied().collect();
        Ok(Filters { name: parameter.name.clone(), shape: [height, width, colours, filters], weights })
    }

    /// The pixels of one image as a batch.
    fn image(&self, image: &[u8]) -> Result<Tensor, ExplainError> {
        let [height, width, channels] = self.model.input;
        if image.len() != height * width * channels {
            return Err(ExplainError::NotOneImage { bytes: image.len(), height, width, channels });
        }
        Ok(Tensor::u8([1, height, width, channels], image.to_vec()))
    }

    /// The program that tells this, loaded once.
    fn program(&mut self, looked: Looked) -> Result<ProgramId, ExplainError> {
        if let Some(program) = self.programs.get(&looked) {
            return Ok(*program);
        }
        let graph = match &looked {
            Looked::GradCam(layer) => grad_cam_graph(&self.model, &mut self.parameters, &self.normalisation, 1, layer)?,
            Looked::Layers(layers) => self.layers_graph(layers)?,
        };
        let plan = Plan::new(&graph, &self.executor.target(), PlanOptions::inference())?;
        self.executor.check_memory(&plan)?;
        let program = self.executor.load(plan)?;
        self.programs.insert(looked, program);
        Ok(program)
    }

    /// The network, with what layers make as outputs of their names.
    fn layers_graph(&mut self, paths: &[String]) -> Result<Graph, ExplainError> {
        let network = network_graph(&self.model, &mut self.parameters, 1, &self.normalisation)?;
        let layers = map_layers(&self.model, &network);
        let mut graph = network.graph;
        for path in paths {
            graph.output(path.as_str(), find(&layers, path)?.output);
        }
        Ok(graph)
    }

    fn run(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<Outputs, ExecutorError> {
        self.executor.run(program, feeds)?;
        Ok(self.executor.collect(program, true)?.pop().unwrap_or_default())
    }
}

/// The values of an output.
fn floats<'a>(outputs: &'a Outputs, name: &str) -> &'a [f32] {
    let found = outputs.iter().find(|(given, _)| given == name);
    found.and_then(|(_, tensor)| tensor.as_f32()).unwrap_or_default()
}

/// The channels of the largest means, of values `[places, channels]`.
fn strongest(layer: &MapLayer, values: &[f32], most: usize) -> FeatureMaps {
    let channel = |at: usize| values.iter().copied().skip(at).step_by(layer.channels.max(1));
    let mut means: Vec<(usize, f32)> = (0..layer.channels).map(|at| (at, channel(at).sum())).collect();
    means.sort_by(|a, b| b.1.total_cmp(&a.1));
    let map = |at: usize| Map { height: layer.height, width: layer.width, values: channel(at).collect() };
    let maps = means.into_iter().take(most).map(|(at, _)| (at, map(at))).collect();
    FeatureMaps { layer: layer.path.clone(), channels: layer.channels, maps }
}
