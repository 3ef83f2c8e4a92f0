//! The errors of explaining.

use thiserror::Error;

use crate::{
    graph::GraphError,
    plan::{ExecutorError, PlanError},
    train::TrainError,
};

/// Why something of a network cannot be shown.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The weights cannot be read, or the images not be run through the network.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The graph cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The graph does not fit the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The network has no layer that tells places of an image apart.
    #[error(
        "{model} has no layer whose output is laid out as the image is, as that of a convolution: there is no place in the image \
         to show"
    )]
    NoMaps {
        /// Name of the model.
        model: String,
    },
    /// There is no layer of that name.
    #[error(
        "no layer is called {name} whose output is laid out as the image is; {}the layers are {}",
        match .near { Some(near) => format!("did you mean {near}? "), None => String::new() },
        .layers.join(", ")
    )]
    UnknownLayer {
        /// The name that was given.
        name: String,
        /// The name that is most like it.
        near: Option<String>,
        /// The names that there are.
        layers: Vec<String>,
    },
    /// The network does not begin with a convolution over the colours of the image.
    #[error("{model} does not begin with a convolution over the colours of the image: it has no filters to show")]
    NoFilters {
        /// Name of the model.
        model: String,
    },
    /// There is no such class.
    #[error("there is no class {class}: the network tells {classes} apart, counted from 0")]
    NoClass {
        /// The class that was asked for.
        class: usize,
        /// How many there are.
        classes: usize,
    },
    /// Pixels are not those of one image.
    #[error("{bytes} bytes are not the pixels of an image of {height}x{width}x{channels}")]
    NotOneImage {
        /// How many were given.
        bytes: usize,
        /// Rows that the network takes.
        height: usize,
        /// Columns.
        width: usize,
        /// Colours.
        channels: usize,
    },
    /// A patch cannot slide over the image.
    #[error("{0}")]
    Patch(String),
}
