//! Beginning with the weights of another run, of torchvision or of timm.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use serde_json::Value;

use super::{Card, Session, TrainError};
use crate::{
    data::Normalisation,
    graph::GraphError,
    models::{self, Architecture, Entry, Model, ZOO, pytorch},
    nn::Parameters,
    tensor::{Shape, Tensor},
    weights::{OWN, WeightsError, WeightsFile, some_of},
};

/// The weights of a file, to begin a run with.
pub struct Pretrained {
    file: WeightsFile,
    /// What gabor's own files say of themselves.
    card: Option<Card>,
    normalisation: Normalisation,
    reason: &'static str,
}

/// What a run began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Tensors that were taken from the file.
    pub tensors: usize,
    /// Where the last dense layer begins anew: its name, and how many classes the file tells apart, if it has such a layer.
    pub new_head: Option<(String, Option<usize>)>,
    /// Where position embeddings were resized: rows and columns of patches in the file and now.
    pub positions: Option<[[usize; 2]; 2]>,
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors", self.tensors)?;
        match &self.new_head {
            Some((layer, Some(classes))) => {
                write!(f, "; {layer} begins anew, that of the file is for {classes} classes")?
            }
            Some((layer, None)) => write!(f, "; {layer} begins anew, the file has none")?,
            None => {}
        }
        if let Some([from, to]) = self.positions {
            let [from, to] = [from, to].map(|[rows, columns]| format!("{rows}x{columns}"));
            write!(f, "; position embeddings resized from {from} to {to} patches, bicubically")?;
        }
        Ok(())
    }
}

/// A parameter of a model in a file.
struct Found {
    /// What the file calls it.
    name: String,
    theirs: Vec<usize>,
}

impl Pretrained {
    /// Opens a weights file: gabor's own, or a state dict of torchvision or timm that `torch.save` or safetensors wrote.
    ///
    /// # Errors
    /// If it cannot be read or is no such file.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let file = WeightsFile::open(path)?;
        let card = match file.metadata(OWN) {
            Some(_) => Some(super::read_card(path)?),
            None => None,
        };
        let (normalisation, reason) = match &card {
            Some(card) => (card.normalisation.clone(), "as in the training of the weights"),
            None => normalisation_of(path),
        };
        Ok(Self { file, card, normalisation, reason })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// How images were normalised that the weights were trained on, and how that is known: gabor's files say it, timm's by
    /// `pretrained_cfg` in a `config.json` beside them, timm's augreg transformers by their name; all others are by ImageNet's
    /// mean and standard deviation.
    pub fn normalisation(&self) -> (&Normalisation, &'static str) {
        (&self.normalisation, self.reason)
    }

    /// Channels of the images that the weights were trained on.
    pub fn channels(&self) -> usize {
        self.normalisation.mean.len()
    }

    /// The network that the weights are of, where it is known: gabor's files say it, and others fit one of the zoo.
    pub fn architecture(&self) -> Option<Architecture> {
        match &self.card {
            Some(card) => Some(card.architecture()),
            None => {
                let entry = ZOO.iter().find(|entry| self.fits(entry.name, entry.input, entry.classes))?;
                Some(entry.name.into())
            }
        }
    }

    /// Whether the file holds the weights of a model of the zoo for such images.
    fn fits(&self, name: &str, input: [usize; 3], classes: usize) -> bool {
        let parameters = models::build(name, input, classes).and_then(|model| model.parameters().ok());
        parameters.is_some_and(|parameters| self.differences(name, &parameters).is_empty())
    }

    /// The file's tensors by the names that `model` has for them.
    fn by_name(&self, model: &str) -> BTreeMap<String, Found> {
        let ours = |name: &str| match self.card {
            Some(_) => Some(name.to_string()),
            None => pytorch::name(model, name),
        };
        let found = |(name, shape): (&str, &[usize])| {
            Some((ours(name)?, Found { name: name.to_string(), theirs: shape.to_vec() }))
        };
        self.file.tensors().filter_map(found).collect()
    }

    /// The shape that a tensor of the file has as a parameter of so many axes.
    fn shape(&self, found: &Found, axes: usize) -> Vec<usize> {
        match self.card {
            Some(_) => found.theirs.clone(),
            None => pytorch::shape(&found.theirs, axes),
        }
    }

    /// What does not fit between the file and these parameters, but for the head and the number of positions.
    fn differences(&self, model: &str, parameters: &Parameters) -> Differences {
        let found = self.by_name(model);
        let of_head = |name: &str| is_of(parameters.last_dense(), name);
        let mut differences = Differences::default();
        for parameter in parameters.iter().filter(|parameter| !of_head(&parameter.name)) {
            let Some(tensor) = found.get(&parameter.name) else {
                differences.missing.push(parameter.name.clone());
                continue;
            };
            let shape = self.shape(tensor, parameter.shape.rank());
            if shape[..] != parameter.shape[..] && !resizable(&parameter.name, &shape, &parameter.shape) {
                differences.shapes.push(format!(
                    "{} is {} and not {}",
                    tensor.name,
                    Shape::from(shape),
                    parameter.shape
                ));
            }
        }
        let known: BTreeSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let unknown = found.iter().filter(|(name, _)| !known.contains(name.as_str()) && !of_head(name));
        differences.unexpected = unknown.map(|(_, found)| found.name.clone()).collect();
        differences
    }

    /// The error that the file is of another model, and of which.
    fn mismatch(&self, model: &Model, differences: &Differences) -> TrainError {
        // The sizes of images for which a model's layers may be others: that of the file's run, the usual one, and a small one.
        let of_card = self.card.as_ref().map(|card| card.input);
        let own = ZOO.iter().find(|entry| entry.name == model.name);
        let sizes = own.map(|entry| [of_card.unwrap_or(entry.input), entry.input, [32, 32, 3]]).into_iter();
        let advice = match sizes.flatten().find(|input| self.fits(&model.name, *input, 1)) {
            Some([height, width, channels]) => {
                let [own_height, own_width, own_channels] = model.input;
                format!(
                    "they fit {} for images of {height}x{width} with {channels} channels, and its layers are others for \
                     these of {own_height}x{own_width} with {own_channels}: give such images (`height_width`, `channels`)",
                    model.name
                )
            }
            None => {
                let fitting = |entry: &&Entry| {
                    [model.input, entry.input].into_iter().any(|input| self.fits(entry.name, input, entry.classes))
                };
                match ZOO.iter().find(fitting) {
                    Some(entry) => format!("they fit {}: give this as the `model`", entry.name),
                    None => "they fit no model of the zoo".to_string(),
                }
            }
        };
        let message = format!("holds weights of another model than {}: {differences}; {advice}", model.name);
        TrainError::Weights(WeightsError::Content { path: self.path().into(), message })
    }
}

/// What does not fit.
#[derive(Default)]
struct Differences {
    missing: Vec<String>,
    unexpected: Vec<String>,
    shapes: Vec<String>,
}

impl Differences {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("missing", &self.missing), ("unexpected", &self.unexpected), ("of another shape", &self.shapes)];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<String> = lists
            .map(|(what, names)| format!("{what} {}", some_of(names.iter().map(|name| Cow::from(name.as_str())))))
            .collect();
        f.write_str(&said.join("; "))
    }
}

/// Whether a parameter is one of this layer.
fn is_of(layer: Option<&str>, name: &str) -> bool {
    layer.and_then(|layer| name.strip_prefix(layer)).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a parameter are position embeddings of another number of patches, which are a square in the file.
fn resizable(name: &str, theirs: &[usize], ours: &[usize]) -> bool {
    let square = |positions: usize| positions.checked_sub(1).is_some_and(|patches| patches.isqrt().pow(2) == patches);
    match (theirs, ours) {
        (&[1, positions, width], &[1, _, ours]) => name == pytorch::POSITIONS && width == ours && square(positions),
        _ => false,
    }
}

/// How torchvision's and timm's images are normalised, and how that is known.
fn normalisation_of(path: &Path) -> (Normalisation, &'static str) {
    let config = fs::read(path.with_file_name("config.json")).ok();
    let config: Option<Value> = config.and_then(|text| serde_json::from_slice(&text).ok());
    let numbers = |of: &Value| -> Option<Vec<f32>> { serde_json::from_value(of.clone()).ok() };
    let named = config.and_then(|config| {
        let of = config.get("pretrained_cfg").unwrap_or(&config);
        Some(Normalisation { mean: numbers(of.get("mean")?)?, std: numbers(of.get("std")?)? })
    });
    if let Some(named) = named.filter(|named| named.check(named.mean.len()).is_ok()) {
        return (named, "as config.json beside the weights says");
    }
    if path.to_string_lossy().contains("augreg") {
        return (
            Normalisation { mean: vec![0.5; 3], std: vec![0.5; 3] },
            "by 0.5 and 0.5, as in the training of timm's augreg weights",
        );
    }
    (Normalisation::imagenet(), "by ImageNet's statistics, as published weights are")
}

impl Session {
    /// Begins with pretrained weights in place of the initial ones, before the first step. The last dense layer begins anew where
    /// the file tells other classes apart: another number of them, or others by name in gabor's own files. Position embeddings
    /// of a vision transformer are resized to the images.
    ///
    /// # Errors
    /// If the file is of another model, damaged, or holds a value that is not finite: nothing has changed then; or if the device
    /// fails.
    pub fn begin_with(&mut self, pretrained: &Pretrained, classes: &[String]) -> Result<Begun, TrainError> {
        let differences = pretrained.differences(&self.model.name, &self.parameters);
        if !differences.is_empty() {
            return Err(pretrained.mismatch(&self.model, &differences));
        }
        let found = pretrained.by_name(&self.model.name);
        let head = self.parameters.last_dense().map(String::from);
        let of_head = |name: &str| is_of(head.as_deref(), name);
        let mut fits = pretrained.card.as_ref().is_none_or(|card| card.classes == classes);
        let mut classes_of_file = None;
        for parameter in self.parameters.iter().filter(|parameter| of_head(&parameter.name)) {
            let shape = found.get(&parameter.name).map(|found| pretrained.shape(found, parameter.shape.rank()));
            fits &= shape.as_deref() == Some(&parameter.shape[..]);
            classes_of_file = shape.and_then(|shape| shape.last().copied()).or(classes_of_file);
        }
        let mut begun = Begun { tensors: 0, new_head: None, positions: None };
        if let Some(layer) = head.clone().filter(|_| !fits) {
            begun.new_head = Some((layer, classes_of_file));
        }
        let mut tensors = Vec::new();
        for parameter in self.parameters.iter().filter(|parameter| fits || !of_head(&parameter.name)) {
            let Some(found) = found.get(&parameter.name) else { continue };
            let mut values = pretrained.file.read(&found.name)?;
            if pretrained.card.is_none() {
                values = pytorch::values(values, &found.theirs, parameter.shape.rank());
            }
            if pretrained.shape(found, parameter.shape.rank()) != parameter.shape[..] {
                let (resized, grids) = self.resized_positions(&values, found, &parameter.shape)?;
                (values, begun.positions) = (resized, Some(grids));
            }
            let tensor = Tensor::f32(&parameter.shape, values);
            let update = self.state.updates.iter().find(|update| update.block == parameter.block);
            if update.is_some_and(|update| update.average.is_some()) {
                tensors.push((format!("{}{}", super::tensors::AVERAGE, parameter.name), tensor.clone()));
            }
            tensors.push((parameter.name.clone(), tensor));
            begun.tensors += 1;
        }
        self.set_tensors(&tensors)?;
        Ok(begun)
    }

    /// Position embeddings of a file for the images of this session, and the grids that they are of.
    fn resized_positions(
        &self,
        values: &[f32],
        found: &Found,
        ours: &Shape,
    ) -> Result<(Vec<f32>, [[usize; 2]; 2]), TrainError> {
        let [height, width, _] = self.model.input;
        let side = found.theirs.get(1).map_or(0, |positions| positions.saturating_sub(1)).isqrt();
        // The patches are squares, so that their number and the sides of the image say how many stand in a row.
        let patches = ours[1] - 1;
        let rows = (patches * height / width.max(1)).isqrt().max(1);
        let grids = [[side; 2], [rows, patches / rows]];
        let resized = pytorch::positions(values, ours.last(), grids[0], grids[1]);
        let resized = resized.filter(|values| values.len() == ours.elements());
        let message = || format!("position embeddings of {side}x{side} patches cannot be resized to {patches}");
        let layer = found.name.clone();
        Ok((resized.ok_or_else(|| GraphError::Layer { layer, message: message() })?, grids))
    }
}
