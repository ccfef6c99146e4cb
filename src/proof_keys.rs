//! The keys that rounds are proven with, and where they are kept.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use convoke_client::VerifierKey;
use convoke_proofs::keys::Keys;
use convoke_proofs::progress::{Progress, Stage};
use convoke_proofs::size::Size;
use convoke_protocol::ids::Digest;
use indicatif::{ProgressBar, ProgressStyle};

/// Steps of the bar.
const BAR_STEPS: u64 = 1_000;

/// Names the folder with the keys for proofs.
const FOLDER_VARIABLE: &str = "CONVOKE_PROOF_KEYS";

/// Where the keys for proofs are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProofKeyArgs {
    /// Folder with the keys for proofs [default: convoke/proofs in the user's data folder]
    #[arg(long, value_name = "DIR", env = FOLDER_VARIABLE)]
    proof_keys: Option<PathBuf>,
}

impl ProofKeyArgs {
    /// The folder.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.proof_keys {
            Some(folder) => Ok(folder.clone()),
            None => default_folder(),
        }
    }
}

/// The folder where it is not asked for: that of the environment, else `convoke/proofs` in the
/// user's data folder.
pub(crate) fn default_folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return Ok(folder.into());
    }
    let data = dirs::data_dir().context("there is no home folder; name one with --proof-keys")?;
    Ok(data.join("convoke").join("proofs"))
}

/// The keys of a size: those of a ceremony, or those for development, which are made if there
/// are none. A bar shows it to a person who looks on.
pub(crate) fn open_or_make(folder: &Path, size: Size) -> anyhow::Result<Keys> {
    Ok(Keys::open_or_make(folder, size, &Bar::new())?)
}

/// What the chain verifies with.
pub(crate) fn verifier_key(keys: &Keys) -> anyhow::Result<VerifierKey> {
    let verifying = keys.verifying();
    Ok(VerifierKey {
        slots: u16::try_from(verifying.size().slots()).context("circuits are small")?,
        circuit: Digest(*verifying.circuit()),
        words: verifying.words(),
    })
}

/// Reads the size of a circuit: the number of trainers that it has room for.
pub(crate) fn parse_size(text: &str) -> Result<Size, String> {
    let slots = text.parse::<usize>().ok();
    let size = Size::ALL
        .into_iter()
        .find(|size| Some(size.slots()) == slots);
    size.ok_or_else(|| "there are circuits for 16, 64 and 256 trainers".to_owned())
}

/// Shows on standard error how far work on keys and proofs is.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar for a person who looks on, nothing otherwise.
    pub(crate) fn new() -> Self {
        let attended = console::user_attended_stderr();
        Self(attended.then(|| ProgressBar::new(BAR_STEPS).with_style(style())))
    }
}

impl Progress for Bar {
    fn at(&self, stage: Stage, fraction: f64) {
        if let Some(bar) = &self.0 {
            bar.set_message(stage.to_string());
            bar.set_position((fraction.clamp(0.0, 1.0) * BAR_STEPS as f64) as u64);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3}% {msg} {elapsed}")
        .expect("the template is a constant that the test below parses")
        .progress_chars("━━╌")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_circuits_and_the_bar_parses() {
        let _ = style();
        assert_eq!(parse_size("64"), Ok(Size::N64));
        for wrong in ["", "0", "17", "-16", "sixteen"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
