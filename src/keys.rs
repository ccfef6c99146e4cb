//! Key files: one secret in hex, readable by its owner alone. A secret never stands on a
//! command line, where every process of the machine could read it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use convoke_protocol::identity::Wallet;
use rand::TryRngCore as _;

use crate::failure::HintExt as _;

/// Which key signs.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Key file of the account that acts; `convoke wallet new FILE` makes one
    #[arg(
        id = "key",
        long = "key",
        value_name = "FILE",
        env = "CONVOKE_KEY_FILE"
    )]
    file: PathBuf,
}

impl KeyArgs {
    /// The wallet of the key file.
    pub(crate) fn wallet(&self) -> anyhow::Result<Wallet> {
        load(&self.file)
    }
}

/// Reads a key file.
pub(crate) fn load(path: &Path) -> anyhow::Result<Wallet> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the key file {shown}"))
        .hint(format!("`convoke wallet new {shown}` makes a key"))?;
    check_private(path)?;
    let digits = text.trim();
    let mut secret = [0; 32];
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut secret)
        .ok()
        // The decoder's message would quote a character of the secret.
        .with_context(|| format!("{shown} is no key file: 64 hex digits are expected"))?;
    Wallet::from_bytes(&secret).with_context(|| format!("{shown} holds no usable key"))
}

/// Writes a new key file; never over an existing one.
pub(crate) fn store(path: &Path, wallet: &Wallet) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot create the key file {}", path.display()))?;
    writeln!(file, "{}", hex::encode(wallet.secret_bytes()))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write the key file {}", path.display()))
}

/// A wallet from the system's randomness.
pub(crate) fn random() -> anyhow::Result<Wallet> {
    let mut secret = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut secret)
        .context("the system gives no randomness")?;
    // Fails for about one in 2^128 values.
    Wallet::from_bytes(&secret).context("an unusable key was drawn: try again")
}

#[cfg(unix)]
fn check_private(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)
        .with_context(|| format!("cannot look at {}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let error = anyhow::anyhow!(
            "key file {} can be read by others (mode {:o})",
            path.display(),
            mode & 0o777
        );
        return Err(error).hint(format!(
            "run `chmod 600 {}`; if others use this machine, make a new key",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(path: &Path) -> anyhow::Result<()> {
    // Other systems have access lists that this program does not read.
    std::fs::metadata(path)
        .map(drop)
        .with_context(|| format!("cannot look at {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_loads_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let wallet = random().unwrap();
        store(&path, &wallet).unwrap();
        assert_eq!(load(&path).unwrap().address(), wallet.address());
        assert!(store(&path, &wallet).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        store(&path, &random().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let text = load(&path).unwrap_err().to_string();
        assert!(
            text.contains("read by others") && text.contains("640"),
            "{text}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn an_error_never_quotes_the_secret() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "zz11").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!("{:?}", load(&path).unwrap_err());
        assert!(
            text.contains("64 hex digits") && !text.contains("zz11"),
            "{text}"
        );
    }
}
