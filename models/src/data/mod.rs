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

/// Examples of one kind. Cheap in memory: they become tensors batch by batch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Dataset {
    /// Labelled images.
    Images(Images),
}

impl Dataset {
    /// Reads the part of a folder that `model` can learn from or be tested on.
    ///
    /// # Errors
    /// [`ModelError`], naming the file, if there is none of the kind that the model takes or it is
    /// not well-formed; [`ModelError::Dataset`] if it does not fit the model.
    pub fn open(folder: &Path, part: Part, model: &Model) -> Result<Self, ModelError> {
        let set = Self::Images(Images::open(folder, part)?);
        model.check_data(&set)?;
        Ok(set)
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Images(images) => images.len(),
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
        }
    }

    /// What an example is called, in the plural.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Images(_) => "images",
        }
    }

    /// The examples at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        match self {
            Self::Images(images) => Self::Images(images.subset(indices)),
        }
    }

    /// The examples at `indices` on a device.
    pub(crate) fn batch(&self, indices: &[usize], device: &Device) -> Batch {
        match self {
            Self::Images(images) => Batch::images(images, indices, device),
        }
    }
}

impl From<Images> for Dataset {
    fn from(images: Images) -> Self {
        Self::Images(images)
    }
}
