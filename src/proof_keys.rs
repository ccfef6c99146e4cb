//! The keys that rounds are proven with, and where they are kept.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use convoke_client::VerifierKey;
use convoke_proofs::keys::{Circuit, Keys};
use convoke_proofs::size::Size;
use convoke_protocol::ids::Digest;
use rand::SeedableRng as _;

/// Where the keys for proofs are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProofKeyArgs {
    /// Folder with the keys for proofs [default: convoke/proofs in the user's data folder]
    #[arg(long, value_name = "DIR", env = "CONVOKE_PROOF_KEYS")]
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

/// `convoke/proofs` in the user's data folder.
pub(crate) fn default_folder() -> anyhow::Result<PathBuf> {
    let data = dirs::data_dir().context("there is no home folder; name one with --proof-keys")?;
    Ok(data.join("convoke").join("proofs"))
}

/// The keys of a size, made for development if there are none.
pub(crate) fn open_or_make(folder: &Path, size: Size) -> anyhow::Result<Keys> {
    let circuit = Circuit::new(size)?;
    if Keys::file(folder, &circuit).exists() {
        return Ok(Keys::load(folder, circuit)?);
    }
    let keys = Keys::insecure_setup(size, &mut rand::rngs::StdRng::from_os_rng())?;
    keys.save(folder)?;
    Ok(keys)
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
