//! Image classifiers for a federation: data sets, burn modules, local training, evaluation, and
//! parameters as named flat vectors.
//!
//! This is the only crate that knows burn; no type of burn appears in its interface. A trainer
//! calls [`train`], a validator keeps an [`Evaluator`], whoever posts a task calls [`initial`]:
//!
//! ```
//! use convoke_models::{DeviceChoice, ModelConfig, ModelKind, initial};
//!
//! let model = ModelConfig { kind: ModelKind::Cnn, height: 28, width: 28, classes: 10 };
//! let checkpoint = initial(&model, 7)?;
//! let file = checkpoint.to_safetensors();
//! let device = "cpu".parse::<DeviceChoice>()?.open()?;
//! # let _ = (file, device);
//! # Ok::<(), convoke_models::ModelError>(())
//! ```
//!
//! Same seed, same number of threads, same machine: the same bytes.

pub mod cnn;
mod control;
pub mod data;
mod device;
mod error;
mod evaluate;
mod flatten;
pub mod mlp;
mod parameters;
mod registry;
mod task;
mod tokenizer;
mod train;

pub use control::Correction;
pub use data::{Dataset, Part, SplitConfig};
pub use device::{ComputeDevice, DeviceChoice, limit_threads};
pub use error::ModelError;
pub use evaluate::metrics::{Metrics, RANKS_COUNTED, Tally};
pub use evaluate::{Evaluation, Evaluator};
pub use parameters::{HEADER_BYTES_MAX, Parameters, TensorSpec};
pub use registry::{ModelConfig, ModelKind, initial, layout};
pub use tokenizer::Tokenizer;
pub use train::{ClientOptimizer, StepReport, TrainConfig, Trained, train, train_corrected};
