//! The folder of a local training: model, metrics, snapshot, and how far it is.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use convoke_models::Parameters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::HintExt as _;

/// How far a training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    /// Whole rounds.
    pub(super) rounds_done: u32,
    /// Optimizer steps of those.
    pub(super) steps: u64,
    /// What was measured before the first.
    pub(super) before: Option<Value>,
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens a folder, new or, to resume, one that holds a training.
    pub(super) fn open(path: &Path, resume: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path).with_context(|| format!("cannot create {shown}"))?;
        let folder = Self(path.to_owned());
        let begun = folder.progress().exists();
        if begun && !resume {
            return Err(anyhow::anyhow!("{shown} holds a training already"))
                .hint("go on with it with --resume, or choose another folder with --out");
        }
        if !begun && resume {
            bail!("{shown} holds no training that could go on");
        }
        Ok(folder)
    }

    /// The parameters after the last whole round.
    pub(super) fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// One JSON object for each step and each measurement.
    pub(super) fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The round under way.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.0.join("training.snapshot")
    }

    fn progress(&self) -> PathBuf {
        self.0.join("progress.json")
    }

    /// How far the training is, if it has begun.
    pub(super) fn load(&self) -> anyhow::Result<Option<Progress>> {
        let path = self.progress();
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let progress = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(progress))
    }

    /// Keeps the parameters, and then that they are those of so many rounds. Between the two a
    /// crash costs a round's training at most: the snapshot does not fit the parameters then, and
    /// the round is trained again from them.
    pub(super) fn save(&self, progress: &Progress, parameters: &Parameters) -> anyhow::Result<()> {
        replace(&self.model(), &parameters.to_safetensors())?;
        replace(&self.progress(), &serde_json::to_vec_pretty(progress)?)
    }

    /// Keeps what came of it.
    pub(super) fn save_result(&self, result: &Value) -> anyhow::Result<()> {
        replace(
            &self.0.join("result.json"),
            &serde_json::to_vec_pretty(result)?,
        )
    }
}

/// Writes a file so that a crash leaves either the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension("part");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_new_or_resumed() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("run");
        assert!(Folder::open(&path, true).is_err());
        let folder = Folder::open(&path, false).unwrap();
        assert_eq!(folder.load().unwrap(), None);
        let progress = Progress {
            rounds_done: 2,
            ..Progress::default()
        };
        folder
            .save(&progress, &Parameters::zeros(Vec::new()).unwrap())
            .unwrap();
        assert!(Folder::open(&path, false).is_err());
        let folder = Folder::open(&path, true).unwrap();
        assert_eq!(folder.load().unwrap(), Some(progress));
    }
}
