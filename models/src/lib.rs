//! Models for a federation: data sets, burn modules, local training, evaluation, and parameters as
//! named flat vectors.
//!
//! This is the only crate that knows burn; no type of burn appears in its interface. A trainer
//! calls [`train`], a validator keeps an [`Evaluator`], whoever posts a task calls
//! [`Model::initial`]:
//!
//! ```
//! use convoke_models::{DeviceChoice, Model, ModelKind};
//!
//! let model = Model::new(ModelKind::Cnn.defaults())?;
//! let checkpoint = model.initial(7)?;
//! let file = checkpoint.to_safetensors();
//! let device = "cpu".parse::<DeviceChoice>()?.open()?;
//! # let _ = (file, device);
//! # Ok::<(), convoke_models::ModelError>(())
//! ```
//!
//! Same seed, same number of threads, same machine: the same bytes.

pub mod adapter;
pub mod arch;
pub mod base;
mod batch;
mod control;
pub mod data;
mod device;
mod error;
mod evaluate;
pub mod export;
mod flatten;
pub mod layers;
mod model;
mod network;
mod ops;
mod optimizer;
mod parameters;
mod registry;
mod rope;
pub mod speed;
mod tokenizer;
mod train;

pub use control::Correction;
pub use data::{Dataset, Images, Part, SplitConfig};
pub use device::{
    ComputeDevice, DeviceChoice, DeviceInfo, Memory, Precision, devices, limit_threads,
};
pub use error::ModelError;
pub use evaluate::{Evaluation, Evaluator, RANKS_COUNTED};
pub use model::Model;
pub use parameters::{HEADER_BYTES_MAX, Parameters, TensorSpec};
pub use registry::{ModelConfig, ModelKind, Takes};
pub use rope::RopeScaling;
pub use tokenizer::Tokenizer;
pub use train::{
    ClientOptimizer, EarlyStop, Observer, Snapshot, StepReport, TrainConfig, Trained, Training,
    train, train_corrected,
};
