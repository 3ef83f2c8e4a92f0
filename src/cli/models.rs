//! `gabor models`: the zoo, listed.

use std::{fmt::Write, process::ExitCode};

use anyhow::{Error, Result};
use clap::Args;
use gabor::{
    data::Normalisation,
    models::{Architecture, Entry, ZOO},
    nn::Parameters,
    report::grouped,
    train::inference_graph,
};
use serde_json::{Value, json};

use super::console::Console;

/// List the models that --model can name, with their numbers of parameters and of operations
///
/// Both are for the images and the number of classes that a model is usually shown with: CIFAR-10's or ImageNet's.
/// Operations are those of one image in inference, a multiplication and an addition being two.
#[derive(Args)]
pub struct ModelsArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ModelsArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let mut text = format!("{:<18} {:>11} {:>7}  {:<15}\n", "model", "parameters", "GFLOP", "for images of");
        let mut models: Vec<Value> = Vec::new();
        for entry in ZOO {
            let (parameters, flop) = size(entry)?;
            let [height, width, channels] = entry.input;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<18} {:>11} {:>7.3}  {:<15} {}",
                entry.name,
                grouped(parameters),
                flop as f64 / 1e9,
                format!("{height}x{width}x{channels}"),
                entry.about
            );
            models.push(json!({
                "name": entry.name,
                "about": entry.about,
                "input": entry.input,
                "classes": entry.classes,
                "parameters": parameters,
                "flop": flop,
            }));
        }
        console.json(self.json).result(&json!({"models": models}), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Parameters, and floating-point operations for an image.
fn size(entry: &Entry) -> Result<(usize, u64)> {
    let model = Architecture::from(entry.name).build(entry.input, entry.classes).map_err(Error::msg)?;
    let mut parameters = Parameters::new(usize::MAX);
    let graph = inference_graph(&model, &mut parameters, 1, &Normalisation::imagenet())?;
    Ok((parameters.trained(), graph.flop()))
}
