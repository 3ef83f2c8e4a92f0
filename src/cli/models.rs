//! `gabor models`: the zoo, listed.

use std::{fmt::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;
use gabor::{data::Normalisation, models::ZOO, nn::Parameters, train::inference_graph};
use serde_json::{Value, json};

use super::{
    console::{Console, grouped},
    values,
};

/// List the models that --model can name, with their numbers of parameters
#[derive(Args)]
pub struct ModelsArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The images and classes for which parameters are counted: CIFAR-10's.
const INPUT: [usize; 3] = [32, 32, 3];
const CLASSES: usize = 10;

impl ModelsArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let mut text = format!("{:<10} {:>12}  for 32x32 RGB images, 10 classes\n", "model", "parameters");
        let mut models: Vec<Value> = Vec::new();
        for entry in ZOO {
            let parameters = parameters(entry.name)?;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<10} {:>12}  {}", entry.name, grouped(parameters), entry.about);
            models.push(json!({"name": entry.name, "about": entry.about, "parameters": parameters}));
        }
        console.json(self.json).result(&json!({"input": INPUT, "classes": CLASSES, "models": models}), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn parameters(name: &str) -> Result<usize> {
    let model = values::zoo_model(name, INPUT, CLASSES)?;
    let mut parameters = Parameters::new(usize::MAX);
    inference_graph(&model, &mut parameters, 1, &Normalisation::imagenet())?;
    Ok(parameters.trained())
}
