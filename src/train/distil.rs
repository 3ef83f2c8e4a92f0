//! Learning from a teacher: a trained network's answers to the same images, beside the labels (Hinton, Vinyals and Dean 2015,
//! "Distilling the knowledge in a neural network").

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Recipe, TrainError, forward::inference_graph, weights::Weights};
use crate::{
    data::Normalisation,
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    models::{Model, Teacher},
    nn::{Builder, Parameters},
    tasks::{self, Samples, Task},
    tensor::Tensor,
};

/// What the names of a teacher's parameters begin with.
const TEACHER: &str = "teacher";

impl Teacher {
    /// Loads a weights file that a run left behind.
    ///
    /// # Errors
    /// If the file is missing, truncated, or its model or task is not built in.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let file = Weights::open(path)?;
        let unknown = |what: &str, name: &str| TrainError::Checkpoint {
            path: path.to_path_buf(),
            message: format!("its {what} is {name}, which is not built in: make a Teacher of a model of your own"),
        };
        let card = &file.card;
        let classes = card.classes.len();
        let model = card.architecture().build(card.input, classes).map_err(|_| unknown("model", &card.model))?;
        let task = tasks::build(&card.task, classes).ok_or_else(|| unknown("task", &card.task))?;
        let (model, normalisation) = (model.with_task(task), card.normalisation.clone());
        let mut parameters = Parameters::new(usize::MAX);
        inference_graph(&model, &mut parameters, 1, &normalisation)?;
        let weights = parameters.iter().map(|p| Ok((p.name.clone(), file.tensor(&p.name, &p.shape)?)));
        let weights = weights.collect::<Result<_, TrainError>>()?;
        Ok(Self { model, normalisation, weights })
    }

    /// What tells it from all others: the SHA-256 of its normalisation and of its weights with their names, in hexadecimal
    /// digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let Normalisation { mean, std } = &self.normalisation;
        mean.iter().chain(std).for_each(|number| hasher.update(number.to_le_bytes()));
        for (name, tensor) in &self.weights {
            hasher.update(name);
            hasher.update(tensor.bytes());
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The weights of each of the teacher's parameters in `parameters`, in the order of [`Parameters::given`].
    ///
    /// # Errors
    /// If it has none of a name, or of another shape.
    pub(super) fn weights_of(&self, parameters: &Parameters) -> Result<Vec<&Tensor>, TrainError> {
        let weight = |name: &str| {
            let own = name.strip_prefix(TEACHER).and_then(|name| name.strip_prefix('.'));
            self.weights.iter().find(|(given, _)| own == Some(given)).map(|(_, tensor)| tensor)
        };
        let of = |parameter: &crate::nn::Parameter| {
            weight(&parameter.name).filter(|tensor| *tensor.shape() == parameter.shape).ok_or_else(|| {
                let (model, name, shape) = (&self.model.name, &parameter.name, &parameter.shape);
                TrainError::Setting(format!("the teacher {model} has no weights {name} of shape {shape}"))
            })
        };
        parameters.given().map(of).collect()
    }
}

/// What the model's teacher makes of the samples, where it has one: of the same images as the student, varied alike, in its own
/// normalisation.
pub(super) fn teacher_output(
    graph: &mut Graph,
    parameters: &mut Parameters,
    model: &Model,
    samples: &Samples,
    normalisation: &Normalisation,
) -> Result<Option<Value>, GraphError> {
    let Some(teacher) = &model.teacher else { return Ok(None) };
    let refused = |message| GraphError::Layer { layer: TEACHER.into(), message };
    teacher.check(model).map_err(refused)?;
    let images = normalised_anew(graph, samples.images, normalisation, &teacher.normalisation)?;
    let mut builder = Builder::given(graph, parameters);
    builder.scoped(TEACHER, |builder| teacher.model.network.forward(builder, images)).map(Some)
}

/// The losses by the labels and those of imitating the teacher, where there is one: `(1 - w) * losses + w * T^2 * KL(teacher ||
/// student)`.
pub(super) fn distilled_losses(
    graph: &mut Graph,
    recipe: &Recipe,
    model: &Model,
    samples: &Samples,
    teacher: Option<Value>,
    losses: Value,
) -> Result<Value, GraphError> {
    let Some(teacher) = teacher else { return Ok(losses) };
    let imitation = imitation(graph, model.task.as_ref(), samples.output, teacher, recipe.teacher_temperature)?;
    let weight = graph.constant(Tensor::scalar(recipe.teacher_weight as f32));
    graph.mean_by_share(imitation, losses, weight)
}

/// How far a student's output is from a teacher's, f32 `[batch]`: `T^2 * divergence(student / T, teacher / T)` at the temperature T
/// (Hinton et al. 2015, section 2).
fn imitation(
    graph: &mut Graph,
    task: &dyn Task,
    student: Value,
    teacher: Value,
    temperature: f64,
) -> Result<Value, GraphError> {
    let student = graph.scale(student, 1.0 / temperature)?;
    let teacher = graph.scale(teacher, 1.0 / temperature)?;
    let divergence = task.divergence(graph, student, teacher)?;
    graph.scale(divergence, temperature * temperature)
}

/// Images in another normalisation than they are in.
fn normalised_anew(
    graph: &mut Graph,
    images: Value,
    from: &Normalisation,
    to: &Normalisation,
) -> Result<Value, GraphError> {
    if from == to {
        return Ok(images);
    }
    let mut constant = |values: &[f32]| graph.constant(Tensor::f32([values.len()], values.to_vec()));
    let [mean, std] = [constant(&from.mean), constant(&from.std)];
    let [new_mean, new_std] = [constant(&to.mean), constant(&to.std)];
    let [x, mean_of, std_of, new_mean_of, new_std_of] = [0, 1, 2, 3, 4].map(Expr::Input);
    let anew = (x * std_of + mean_of - new_mean_of) / new_std_of;
    graph.pointwise("normalise_anew", anew, &[images, mean, std, new_mean, new_std])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        tasks::{Classification, MultiLabel},
    };

    #[test]
    fn imitation_is_that_of_pytorch() {
        for case in check::reference("distillation") {
            let temperature = case.parameters["temperature"].as_f64().unwrap();
            let classes = case.tensor("student").shape().last();
            let task: Box<dyn Task> = match case.parameters["kind"].as_str().unwrap() {
                "softmax" => Box::new(Classification::new(classes)),
                _ => Box::new(MultiLabel::new(classes)),
            };
            let inputs = [case.tensor("student"), case.tensor("teacher")];
            let build = |graph: &mut Graph, v: &[Value]| imitation(graph, task.as_ref(), v[0], v[1], temperature);
            let grads = check::gradients_for(&inputs, &case.tensor("dy"), &[0], build);
            // The divergence is a difference of two entropies, times T^2: what these round by stays.
            let scale = temperature * temperature;
            let losses = check::evaluate(&inputs, build);
            let difference = losses.as_f32().unwrap().iter().zip(case.tensor("y").as_f32().unwrap().to_vec());
            let error = difference.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
            assert!(error < 1e-6 * scale.max(1.0), "{}: off by {error:.2e}", case.name);
            let error = check::relative_error(grads[0].as_f32().unwrap(), case.tensor("dstudent").as_f32().unwrap());
            assert!(error < 2e-6, "the gradient of {}: off by {error:.2e}", case.name);
        }
    }

    #[test]
    fn images_are_normalised_anew() {
        let [from, to] = [(0.5, 0.25), (0.25, 0.5)].map(|(m, s)| Normalisation { mean: vec![m], std: vec![s] });
        let images = [Tensor::f32([1, 1, 2, 1], vec![-2.0, 1.0])];
        let anew = check::evaluate(&images, |graph, v| normalised_anew(graph, v[0], &from, &to));
        assert_eq!(anew.as_f32(), Some(&[-0.5, 1.0][..]));
    }
}
