//! The one error type of this crate.

use std::path::PathBuf;

/// Why data, a model or parameters are refused, or training stopped.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A folder holds no file of the wanted kind.
    #[error("{folder} has no {wanted} file (MNIST names, with or without .gz)", folder = folder.display())]
    FileMissing {
        /// The folder searched.
        folder: PathBuf,
        /// The name that was looked for, without its variants.
        wanted: String,
    },
    /// A file is no valid idx file, or larger than allowed.
    #[error("{file}: {reason}")]
    Idx {
        /// Path, or a description of in-memory data.
        file: String,
        /// What is wrong, with the values found and expected.
        reason: String,
    },
    /// A folder holds no file, or several, for one part of a data set.
    #[error("{folder} needs one file named {wanted}, it has {found}", folder = folder.display())]
    Part {
        /// The folder searched.
        folder: PathBuf,
        /// The names that would do.
        wanted: String,
        /// What is there instead.
        found: String,
    },
    /// A file of text that cannot be read as what it should be.
    #[error("{file}:{line}: {reason}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A field of a record that is missing or has no value that can be used.
    #[error("{file}:{line}: `{field}` {reason}")]
    Field {
        /// The file.
        file: String,
        /// The line, from 1, on which the record begins.
        line: usize,
        /// The field, as a path: `conversations[2].role`.
        field: String,
        /// What is wrong, with the value found and those accepted.
        reason: String,
    },
    /// A tokenizer that cannot be read, or fails on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A snapshot that is none, or belongs to another training.
    #[error("snapshot: {0}")]
    Snapshot(String),
    /// Images, labels, sizes and classes that do not fit together.
    #[error("data set: {0}")]
    Dataset(String),
    /// A split that cannot be made.
    #[error("split: {0}")]
    Split(String),
    /// Base weights that are damaged, of a kind that is not read, or not those of the model.
    #[error("{file}: {reason}")]
    Base {
        /// The file or folder.
        file: String,
        /// What is wrong, with the values found and expected.
        reason: String,
    },
    /// Base weights could not be fetched, or others came than the task asks for.
    #[error("fetching from {from}: {reason}")]
    Fetch {
        /// Where they should come from.
        from: String,
        /// What went wrong.
        reason: String,
    },
    /// No model of that name.
    #[error("unknown model \"{name}\", known: {known}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// All known names, separated by commas.
        known: String,
    },
    /// No client optimizer of that name.
    #[error("unknown client optimizer \"{name}\", known: sgd, adamw")]
    UnknownOptimizer {
        /// The name asked for.
        name: String,
    },
    /// A setting of a model that is unknown or of another type.
    #[error("[model] of kind \"{model}\": {reason}")]
    Settings {
        /// The kind of model.
        model: String,
        /// What is wrong, naming the setting.
        reason: String,
    },
    /// A setting out of its range.
    #[error("{field} is {got}, allowed: {allowed}")]
    Config {
        /// Name of the setting.
        field: &'static str,
        /// The value found.
        got: String,
        /// The values that are accepted.
        allowed: &'static str,
    },
    /// A device name that is none, or names a device this machine or build does not have.
    #[error("device \"{name}\": {reason}")]
    Device {
        /// The name asked for.
        name: String,
        /// What is missing and how to get it.
        reason: String,
    },
    /// Parameters that are no valid safetensors file, or not those of the expected model.
    #[error("parameters: {0}")]
    Parameters(String),
    /// Training produced a loss or a parameter that is infinite or not a number.
    #[error("training diverged at step {step}: the loss is {loss}; lower client_lr")]
    Diverged {
        /// Steps done, counting the failing one.
        step: u32,
        /// The loss of that step.
        loss: f32,
    },
    /// The progress callback asked to stop.
    #[error("training was interrupted after step {step}")]
    Interrupted {
        /// Steps done.
        step: u32,
    },
    /// The compute device failed; another device or a second try may help.
    #[error("compute device failed: {0}")]
    Compute(String),
}

impl ModelError {
    /// The device's own complaint.
    // By value, as `map_err` gives it.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn compute(error: impl std::fmt::Display) -> Self {
        Self::Compute(error.to_string())
    }
}

/// What a panic said, if it said anything.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> Option<&str> {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied())
}

/// Refuses a setting unless it is `good`.
pub(crate) fn in_range(
    field: &'static str,
    got: impl std::fmt::Display,
    good: bool,
    allowed: &'static str,
) -> Result<(), ModelError> {
    if good {
        return Ok(());
    }
    Err(ModelError::Config {
        field,
        got: got.to_string(),
        allowed,
    })
}
