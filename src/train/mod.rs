//! Training: the recipe, the graphs of a step, the loop, and what it leaves behind.

mod batch;
mod budget;
mod callbacks;
mod checkpoint;
mod class_losses;
mod diagnose;
mod distil;
mod effect;
mod error;
mod evaluate;
mod forward;
mod graphs;
mod monitor;
mod observer;
mod pretrained;
mod range;
mod recipe;
mod schedule;
mod session;
mod speed;
mod stage;
mod tensors;
mod trainer;
mod views;
mod vitals;
mod weights;
mod whitening;

pub use callbacks::{EarlyStopping, Kept, Measure, ModelCheckpoint, ReduceLrOnPlateau};
pub use checkpoint::{
    BEST, Card, LAST, Progress, RESUME, check_writable, keep_temperature, keep_thresholds, load_parameters, open_model,
    read_card, write_whole,
};
pub use error::TrainError;
pub use evaluate::{Classifier, Prediction};
pub use forward::{Inferred, NetworkGraph, inference_graph, inference_graph_of, network_graph};
pub use graphs::{
    BlockUpdate, GradientSums, TrainingState, gradient_graph, reading_graph, stage_graph, training_graph, update_graph,
};
pub use monitor::{check_monitor, monitored};
pub use observer::{Control, EpochReport, Observer, StepReport};
pub use pretrained::{Begun, Pretrained};
pub use range::{RangePoint, RangeReport, RangeTest};
pub use recipe::Recipe;
pub use schedule::Schedule;
pub use session::{ImageLoss, Session, StepFigures};
pub use trainer::{Outcome, StopReason, Trainer};
pub use views::augmented;
pub use vitals::{ParameterVitals, Rectifier, Vitals};
