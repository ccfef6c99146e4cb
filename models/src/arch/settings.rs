//! Reading a base's settings.

use serde_json::Value;

use crate::error::ModelError;

/// A `config.json`, with the model that it is read for.
pub(super) struct Settings<'a> {
    model: &'static str,
    config: &'a Value,
}

impl<'a> Settings<'a> {
    pub(super) fn of(model: &'static str, config: &'a Value) -> Self {
        Self { model, config }
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, ModelError> {
        let text = self.config.get(name).and_then(Value::as_str);
        text.ok_or_else(|| self.refused(format!("{name} is missing or no text")))
    }

    pub(super) fn size(&self, name: &str) -> Result<usize, ModelError> {
        let size = self.config.get(name).and_then(Value::as_u64);
        size.and_then(|size| usize::try_from(size).ok())
            .ok_or_else(|| self.refused(format!("{name} is missing or no number of things")))
    }

    pub(super) fn number(&self, name: &str) -> Result<f64, ModelError> {
        let number = self.config.get(name).and_then(Value::as_f64);
        number.ok_or_else(|| self.refused(format!("{name} is missing or no number")))
    }

    /// False if it is missing.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool) == Some(true)
    }

    pub(super) fn require(&self, good: bool, reason: &str) -> Result<(), ModelError> {
        if good {
            Ok(())
        } else {
            Err(self.refused(reason.to_owned()))
        }
    }

    pub(super) fn refused(&self, reason: String) -> ModelError {
        ModelError::Settings {
            model: self.model.to_owned(),
            reason,
        }
    }
}
