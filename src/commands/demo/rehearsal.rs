//! A task of the user's own, played on this machine before it is posted: each party's data lies
//! ready in a folder of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use convoke_models::{Dataset, Model, Part};
use convoke_protocol::task::TaskSpec;

use crate::commands::task::file::TaskFile;
use crate::failure::{HintExt as _, usage};

/// How the folders of the parties are called.
const LAYOUT: &str = "the folder holds trainer-1, trainer-2, ... and validator-1, ..., each with a party's data, and held-back, which the checkpoints are measured on";

/// A task and everybody's data.
#[derive(Debug, Clone)]
pub(crate) struct Rehearsal {
    /// The task as its creator wrote it; cohort, stakes and pay are the demo's.
    pub(crate) spec: TaskSpec,
    /// A folder for each trainer.
    pub(crate) trainers: Vec<PathBuf>,
    /// A folder for each validator.
    pub(crate) validators: Vec<PathBuf>,
    /// Data that nobody works with.
    pub(crate) held_back: PathBuf,
}

impl Rehearsal {
    /// Reads the task file and finds the folders.
    pub(crate) fn open(task: &Path, data: Option<&Path>) -> anyhow::Result<Self> {
        let file = TaskFile::read(task)?;
        // Amounts are replaced by the demo's own.
        let spec = file.spec_alone()?;
        let data = data
            .ok_or_else(|| usage("--task needs --data, too"))
            .hint(LAYOUT)?;
        let shown = data.display();
        let data = data
            .canonicalize()
            .with_context(|| format!("--data {shown}"))
            .hint(LAYOUT)?;
        let numbered = |role: &str| -> Vec<PathBuf> {
            (1..)
                .map(|number: u32| data.join(format!("{role}-{number}")))
                .take_while(|folder| folder.is_dir())
                .collect()
        };
        let rehearsal = Self {
            spec,
            trainers: numbered("trainer"),
            validators: numbered("validator"),
            held_back: data.join("held-back"),
        };
        let found = [
            ("trainer-1", !rehearsal.trainers.is_empty()),
            ("validator-1", !rehearsal.validators.is_empty()),
            ("held-back", rehearsal.held_back.is_dir()),
        ];
        match found.iter().find(|(_, there)| !there) {
            Some((name, _)) => {
                Err(usage(format!("--data {shown}: there is no folder {name}"))).hint(LAYOUT)
            }
            None => Ok(rehearsal),
        }
    }

    /// What is held back, and how many examples each trainer has.
    pub(crate) fn load(&self, model: &Model) -> anyhow::Result<(Dataset, Vec<usize>)> {
        let held_back = Dataset::open(&self.held_back, Part::Test, model)?;
        let examples = self.trainers.iter().map(|folder| {
            let set = Dataset::open(folder, Part::Train, model)?;
            anyhow::Ok(set.len())
        });
        Ok((held_back, examples.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("task.toml");
        std::fs::write(&task, "name = \"t\"\n[model]\nkind = \"mlp\"\n").unwrap();
        let open = || Rehearsal::open(&task, Some(dir.path()));
        for folder in ["trainer-1", "validator-1", "held-back"] {
            let error = open().unwrap_err().to_string();
            assert!(error.contains(folder), "{error}");
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::create_dir(dir.path().join("trainer-2")).unwrap();
        let rehearsal = open().unwrap();
        assert_eq!(rehearsal.trainers.len(), 2);
        assert!(Rehearsal::open(&task, None).is_err());
    }
}
