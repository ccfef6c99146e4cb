//! A training under way as bytes, to go on from after an interruption.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Training;
use crate::data::Dataset;
use crate::error::ModelError;
use crate::model::Model;
use crate::optimizer::StateTensor;
use crate::parameters::{Parameters, TensorSpec};

/// A training under way: parameters, the optimizer's state, and how far it is. It names what it
/// belongs to, so that it is not taken for that of another round, checkpoint or data set.
///
/// Private to the node: a recommender's snapshot holds its users.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub(super) header: Header,
    pub(super) parameters: Parameters,
    pub(super) optimizer: Vec<StateTensor>,
    /// The best parameters so far, if training may stop early.
    pub(super) best: Option<Parameters>,
    /// Users' vectors, row by row.
    pub(super) users: Option<Vec<f32>>,
}

/// All but the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    version: u32,
    /// What it belongs to.
    pub(super) subject: String,
    /// Steps done.
    pub(super) step: u32,
    pub(super) optimizer_steps: u32,
    /// Sum of the losses of this epoch, over its examples.
    pub(super) loss_sum: f64,
    pub(super) loss_examples: usize,
    /// The best held-out loss so far, and evaluations since.
    pub(super) best_loss: Option<f64>,
    pub(super) stale: u32,
}

/// The version of the form.
const VERSION: u32 = 1;

/// Longest header, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;

impl Header {
    pub(super) fn new(subject: String, step: u32) -> Self {
        Self {
            version: VERSION,
            subject,
            step,
            optimizer_steps: 0,
            loss_sum: 0.0,
            loss_examples: 0,
            best_loss: None,
            stale: 0,
        }
    }
}

/// What a snapshot belongs to: model, settings, base, correction and data.
pub(super) fn subject(training: &Training<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    let (model, config) = (training.model.config(), training.config);
    let examples = [Some(training.data), training.held_out].map(|set| set.map(Dataset::len));
    hasher.update(format!("{model:?}\n{config:?}\n{examples:?}\n").as_bytes());
    for spec in training.base.layout() {
        hasher.update(format!("{spec:?}\n").as_bytes());
    }
    hasher.update(bytemuck::cast_slice(training.base.values()));
    if let Some(correction) = training.correction {
        hasher.update(bytemuck::cast_slice(correction.parameters().values()));
    }
    hasher.finalize().to_hex().to_string()
}

impl Snapshot {
    /// Steps done.
    pub fn step(&self) -> u32 {
        self.header.step
    }

    /// Whether it is of this training, so that the training can go on from it.
    pub fn belongs_to(&self, training: &Training<'_>) -> bool {
        self.header.subject == subject(training)
    }

    /// Writes it to a file so that a crash leaves either the old one or the new one.
    ///
    /// # Errors
    /// [`ModelError::File`].
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let beside = path.with_extension("part");
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(&self.to_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|source| ModelError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a file that [`save`](Self::save) wrote; `None` if there is none.
    ///
    /// # Errors
    /// [`ModelError::File`]; those of [`from_bytes`](Self::from_bytes).
    pub fn load(path: &Path, model: &Model) -> Result<Option<Self>, ModelError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::from_bytes(&bytes, model).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ModelError::File {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// As bytes: the length of a header, the header in JSON, and a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors: BTreeMap<String, &[f32]> = BTreeMap::new();
        for (spec, values) in self.parameters.tensors() {
            tensors.insert(format!("{PARAMETERS}{}", spec.name), values);
        }
        for (spec, values) in self.best.iter().flat_map(Parameters::tensors) {
            tensors.insert(format!("{BEST}{}", spec.name), values);
        }
        for (name, values) in &self.optimizer {
            tensors.insert(format!("{OPTIMIZER}{name}"), values);
        }
        if let Some(users) = &self.users {
            tensors.insert(USERS.to_owned(), users);
        }
        let spec = |(name, values): (&String, &&[f32])| TensorSpec {
            name: name.clone(),
            shape: vec![values.len()],
        };
        let layout = tensors.iter().map(spec).collect();
        let values = tensors.into_values().flatten().copied().collect();
        let tensors = Parameters::new(layout, values).expect("names are unique and ordered");
        let header = serde_json::to_vec(&self.header).expect("a header is plain");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(tensors.to_safetensors());
        bytes
    }

    /// Reads a snapshot of a model. Nothing in it is trusted.
    ///
    /// # Errors
    /// [`ModelError::Snapshot`] for anything else.
    pub fn from_bytes(bytes: &[u8], model: &Model) -> Result<Self, ModelError> {
        let bad = |reason: &str| ModelError::Snapshot(reason.to_owned());
        let (length, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| bad("no header"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > HEADER_BYTES_MAX || length > rest.len() {
            return Err(bad("a header of an impossible length"));
        }
        let (header, rest) = rest.split_at(length);
        let header: Header =
            serde_json::from_slice(header).map_err(|error| bad(&error.to_string()))?;
        if header.version != VERSION {
            return Err(bad("another version"));
        }
        let tensors =
            Parameters::from_safetensors(rest, None).map_err(|error| bad(&error.to_string()))?;
        let mut tensors: BTreeMap<&str, &[f32]> = tensors
            .tensors()
            .map(|(spec, values)| (spec.name.as_str(), values))
            .collect();
        let parameters = take(&mut tensors, PARAMETERS, model)?
            .ok_or_else(|| bad("the model's parameters are missing"))?;
        let best = take(&mut tensors, BEST, model)?;
        let users = tensors.remove(USERS).map(<[f32]>::to_vec);
        let state = |(name, values): (&str, &[f32])| {
            let name = name.strip_prefix(OPTIMIZER);
            let name = name.ok_or_else(|| bad("a tensor that means nothing"))?;
            Ok((name.to_owned(), values.to_vec()))
        };
        let optimizer = tensors
            .into_iter()
            .map(state)
            .collect::<Result<Vec<_>, ModelError>>()?;
        for (name, values) in &optimizer {
            let parameter = name.rsplit_once('/').map_or(name.as_str(), |parts| parts.0);
            let spec = model.layout().iter().find(|spec| spec.name == parameter);
            if spec.is_none_or(|spec| spec.len() != values.len()) {
                return Err(bad("a state of no parameter"));
            }
        }
        Ok(Self {
            header,
            parameters,
            optimizer,
            best,
            users,
        })
    }
}

const PARAMETERS: &str = "parameters/";
const OPTIMIZER: &str = "optimizer/";
const BEST: &str = "best/";
const USERS: &str = "users";

/// Takes the model's parameters from among the tensors; `None` if the first is not there.
fn take(
    tensors: &mut BTreeMap<&str, &[f32]>,
    prefix: &str,
    model: &Model,
) -> Result<Option<Parameters>, ModelError> {
    let mut values = Vec::new();
    for (index, spec) in model.layout().iter().enumerate() {
        match tensors.remove(format!("{prefix}{}", spec.name).as_str()) {
            Some(tensor) if tensor.len() == spec.len() => values.extend_from_slice(tensor),
            None if index == 0 => return Ok(None),
            _ => {
                let reason = format!("{prefix}{} is missing or of another shape", spec.name);
                return Err(ModelError::Snapshot(reason));
            }
        }
    }
    Parameters::new(model.layout().to_vec(), values).map(Some)
}
