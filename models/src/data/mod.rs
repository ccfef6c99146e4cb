//! Data sets: what a party trains on or tests with, one kind for each kind of model.

mod chat;
mod delimited;
mod files;
mod idx;
mod images;
mod interactions;
mod labelled;
mod sequences;
mod split;
mod text;

use std::path::Path;

use burn::tensor::Device;

pub use self::chat::{ChatTemplate, TURNS_MAX};
pub use self::files::{FILE_BYTES_MAX, LINE_BYTES_MAX};
pub use self::idx::{IDX_BYTES_MAX, Part};
pub(crate) use self::images::check_images;
pub use self::images::{Images, PIXEL_DEVIATION, PIXEL_MEAN, SIDE_MAX};
pub use self::interactions::{ITEMS_MAX, Interactions, USERS_MAX};
pub use self::labelled::{CLASSES_MAX, Labelled};
pub use self::sequences::{Row, SEQUENCE_LEN_MAX, Sequences};
pub use self::split::{PARTIES_MAX, SplitConfig, split, split_even};
pub use self::text::TextConfig;

use crate::batch::Batch;
use crate::error::ModelError;
use crate::model::Model;
use crate::registry::Takes;

/// Examples of one kind. Cheap in memory: they become tensors batch by batch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Dataset {
    /// Labelled images.
    Images(Images),
    /// What users took; an example is an interaction.
    Interactions(Interactions),
    /// Labelled texts.
    LabelledText(Labelled),
    /// Running text and conversations; an example is a sequence.
    Text(Sequences),
}

impl Dataset {
    /// Reads the part of a folder that `model` can learn from or be tested on; or, but for images,
    /// a file.
    ///
    /// # Errors
    /// [`ModelError`], naming the file, if there is none of the kind that the model takes or it is
    /// not well-formed; [`ModelError::Dataset`] if it does not fit the model.
    pub fn open(path: &Path, part: Part, model: &Model) -> Result<Self, ModelError> {
        let reader = || {
            let unread = || ModelError::Dataset("the model has no tokenizer".into());
            let (tokenizer, config) = (model.tokenizer(), model.config().text());
            Ok::<_, ModelError>((tokenizer.ok_or_else(unread)?, config.ok_or_else(unread)?))
        };
        let set = match model.takes() {
            Takes::Images => Self::Images(Images::open(path, part)?),
            Takes::Text => {
                let (tokenizer, config) = reader()?;
                Self::Text(Sequences::open(path, part, tokenizer, &config)?)
            }
            Takes::LabelledText => {
                let (tokenizer, config) = reader()?;
                let classes = model.classes().unwrap_or(0);
                let (length, names) = (config.sequence_len, model.config().labels());
                let set = Labelled::open(path, part, tokenizer, length, classes, names)?;
                Self::LabelledText(set)
            }
            Takes::Interactions => {
                let items = model.config().items().unwrap_or(0);
                Self::Interactions(Interactions::open(path, part, items)?)
            }
        };
        model.check_data(&set)?;
        Ok(set)
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Images(images) => images.len(),
            Self::Interactions(interactions) => interactions.len(),
            Self::LabelledText(texts) => texts.len(),
            Self::Text(sequences) => sequences.len(),
        }
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Examples of each class, where examples have classes.
    pub fn class_counts(&self) -> Option<Vec<usize>> {
        match self {
            Self::Images(images) => Some(images.class_counts()),
            Self::LabelledText(texts) => Some(texts.class_counts()),
            Self::Interactions(_) | Self::Text(_) => None,
        }
    }

    /// What an example is called, in the plural.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Images(_) => "images",
            Self::Interactions(_) => "interactions",
            Self::LabelledText(_) => "texts",
            Self::Text(_) => "sequences",
        }
    }

    /// The examples at `indices`, in that order; interactions stay in the order of time.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        match self {
            Self::Images(images) => Self::Images(images.subset(indices)),
            Self::Interactions(interactions) => Self::Interactions(interactions.subset(indices)),
            Self::LabelledText(texts) => Self::LabelledText(texts.subset(indices)),
            Self::Text(sequences) => Self::Text(sequences.subset(indices)),
        }
    }

    /// The examples at `indices` on a device, to learn from.
    pub(crate) fn batch(&self, indices: &[usize], device: &Device) -> Batch {
        match self {
            Self::Images(images) => Batch::images(images, indices, device),
            Self::Interactions(interactions) => Batch::pairs(interactions, indices, device),
            Self::LabelledText(texts) => Batch::sequences(texts, indices, device),
            Self::Text(sequences) => Batch::tokens(sequences, indices, device),
        }
    }

    /// All examples on a device, to measure.
    pub(crate) fn batches(&self, device: &Device) -> Vec<Batch> {
        let rows = match self {
            Self::Images(_) => 256,
            Self::Interactions(interactions) => return Batch::rankings(interactions),
            Self::LabelledText(_) => 64,
            // Logits are by far the most of what is held, one for each token of the vocabulary.
            Self::Text(sequences) => (MEASURED_TOKENS / sequences.length()).max(1),
        };
        let order: Vec<usize> = (0..self.len()).collect();
        let batches = order.chunks(rows);
        batches.map(|batch| self.batch(batch, device)).collect()
    }
}

/// Tokens measured at a time.
const MEASURED_TOKENS: usize = 2048;

impl From<Images> for Dataset {
    fn from(images: Images) -> Self {
        Self::Images(images)
    }
}
