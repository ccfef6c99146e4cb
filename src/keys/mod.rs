//! Keys: encrypted files (see [`keystore`]), plain files for throwaway keys, or the environment.
//! A file is readable by its owner alone. A secret never stands on a command line, where every
//! process of the machine could read it.

pub(crate) mod folder;
pub(crate) mod keystore;
pub(crate) mod password;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::Address;
use rand::TryRngCore as _;
use zeroize::Zeroizing;

use self::keystore::{Cost, Keystore};
use self::password::PasswordArgs;
use crate::failure::{HintExt as _, usage};

/// Holds a secret in hex; used where no key file is named.
pub(crate) const KEY_VARIABLE: &str = "CONVOKE_PRIVATE_KEY";
/// A key file is not longer than this, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Which key signs.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// Key of the account that acts: a key file, or the name of a wallet [default: the secret in CONVOKE_PRIVATE_KEY]
    #[arg(
        id = "key",
        long = "key",
        value_name = "FILE|NAME",
        env = "CONVOKE_KEY_FILE"
    )]
    file: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
}

impl KeyArgs {
    /// The wallet of the key; asks for a password if it has one that is not given.
    pub(crate) fn wallet(&self) -> anyhow::Result<Wallet> {
        match &self.file {
            Some(file) => KeyFile::read(&resolve(file, None))?.open(&self.password),
            None => from_environment(),
        }
    }
}

/// Encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Behind a password.
    Encrypted,
    /// For throwaway keys.
    Plain,
}

impl Kind {
    /// For people and programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Plain => "plain",
        }
    }
}

/// A key file that was read; an encrypted one is still locked.
pub(crate) struct KeyFile {
    path: PathBuf,
    content: Content,
}

enum Content {
    Plain(Zeroizing<String>),
    Encrypted(Box<Keystore>),
}

impl KeyFile {
    /// Reads a file of either kind, if nobody else can.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_private(path, "key file")?;
        let content = if text.trim_start().starts_with('{') {
            let keystore = serde_json::from_str(&text)
                .with_context(|| format!("{} is no keystore of version 3", path.display()))?;
            Content::Encrypted(Box::new(keystore))
        } else {
            Content::Plain(text)
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// Encrypted or plain.
    pub(crate) fn kind(&self) -> Kind {
        match self.content {
            Content::Plain(_) => Kind::Plain,
            Content::Encrypted(_) => Kind::Encrypted,
        }
    }

    /// Whose key it is, as far as that can be said without a password.
    pub(crate) fn address(&self) -> anyhow::Result<Option<Address>> {
        match &self.content {
            Content::Plain(digits) => Ok(Some(self.of_digits(digits)?.address())),
            Content::Encrypted(keystore) => Ok(keystore.address()),
        }
    }

    /// The wallet, with the password if there is one.
    pub(crate) fn open(&self, password: &PasswordArgs) -> anyhow::Result<Wallet> {
        let keystore = match &self.content {
            Content::Plain(digits) => return self.of_digits(digits),
            Content::Encrypted(keystore) => keystore,
        };
        let shown = self.path.display().to_string();
        let password = password.of(&shown)?;
        keystore
            .open(&password)
            .with_context(|| format!("cannot open the key file {shown}"))
    }

    fn of_digits(&self, digits: &str) -> anyhow::Result<Wallet> {
        let shown = self.path.display();
        parse_secret(digits)
            .with_context(|| format!("{shown} is no key file: 64 hex digits are expected"))?
            .with_context(|| format!("{shown} holds no usable key"))
    }
}

/// Writes a plain key file; never over an existing one.
pub(crate) fn store(path: &Path, wallet: &Wallet) -> anyhow::Result<()> {
    let digits = Zeroizing::new(hex::encode(wallet.secret_bytes()));
    write_private(path, &digits)
}

/// Writes an encrypted key file; never over an existing one.
pub(crate) fn store_encrypted(
    path: &Path,
    wallet: &Wallet,
    password: &str,
    cost: Cost,
) -> anyhow::Result<()> {
    let keystore = Keystore::seal(wallet, password, cost)?;
    write_private(path, &serde_json::to_string(&keystore)?)
}

/// A wallet from the system's randomness.
pub(crate) fn random() -> anyhow::Result<Wallet> {
    let mut secret = Zeroizing::new([0; 32]);
    fill_random(secret.as_mut_slice())?;
    // Fails for about one in 2^128 values.
    Wallet::from_bytes(&secret).context("an unusable key was drawn: try again")
}

/// The secret in hex; nothing if it is none. The decoder's own message would quote a character.
pub(crate) fn parse_secret(
    text: &str,
) -> Option<Result<Wallet, convoke_protocol::identity::IdentityError>> {
    let digits = text.trim();
    let mut secret = Zeroizing::new([0; 32]);
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode_to_slice(digits, secret.as_mut_slice()).ok()?;
    Some(Wallet::from_bytes(&secret))
}

/// A file as it is, or the wallet of that name where there is no such file.
pub(crate) fn resolve(file: &Path, folder: Option<&Path>) -> PathBuf {
    if file.exists() {
        return file.to_owned();
    }
    let folder = folder.map(Path::to_owned).or_else(|| wallets_folder().ok());
    let wallet = file
        .to_str()
        .zip(folder)
        .and_then(|(name, folder)| folder::find(&folder, name));
    wallet.unwrap_or_else(|| file.to_owned())
}

/// The wallets folder of the environment, or the usual one.
pub(crate) fn wallets_folder() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CONVOKE_WALLETS") {
        Some(folder) => Ok(folder.into()),
        None => folder::default_folder(),
    }
}

/// Reads a file with a secret in it, after a look at who else can.
pub(crate) fn read_private(path: &Path, what: &str) -> anyhow::Result<Zeroizing<String>> {
    let shown = path.display();
    let file = File::open(path)
        .with_context(|| format!("cannot read the {what} {shown}"))
        .hint("`convoke wallet list` shows the wallets that there are, `convoke wallet new NAME` makes one")?;
    // Of the open file: what is checked is what is read.
    check_private(&file, path, what)?;
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the {what} {shown}"))?;
    Ok(text)
}

fn from_environment() -> anyhow::Result<Wallet> {
    let Ok(digits) = std::env::var(KEY_VARIABLE).map(Zeroizing::new) else {
        return Err(usage("no key: this command acts for an account"))
            .hint(format!("give --key FILE|NAME, or set CONVOKE_KEY_FILE or {KEY_VARIABLE}; `convoke wallet new NAME` makes a key"));
    };
    parse_secret(&digits)
        .with_context(|| format!("{KEY_VARIABLE} holds no key: 64 hex digits are expected"))?
        .with_context(|| format!("{KEY_VARIABLE} holds no usable key"))
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot create the key file {}", path.display()))?;
    writeln!(file, "{text}")
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write the key file {}", path.display()))
}

/// Fills with the system's randomness.
fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    rand::rngs::OsRng
        .try_fill_bytes(bytes)
        .context("the system gives no randomness")
}

#[cfg(unix)]
fn check_private(file: &File, path: &Path, what: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file
        .metadata()
        .with_context(|| format!("cannot look at {}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let error = anyhow::anyhow!(
            "the {what} {} can be read by others (mode {:o})",
            path.display(),
            mode & 0o777
        );
        return Err(error).hint(format!(
            "run `chmod 600 {}`; if others use this machine, make a new one",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &File, _: &Path, _: &str) -> anyhow::Result<()> {
    // Other systems have access lists that this program does not read.
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn load(path: &Path) -> anyhow::Result<Wallet> {
        KeyFile::read(path)?.open(&PasswordArgs::default())
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_stored_key_loads_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let wallet = random().unwrap();
        store(&path, &wallet).unwrap();
        assert_eq!(load(&path).unwrap().address(), wallet.address());
        assert!(store(&path, &wallet).is_err());
        assert!(store_encrypted(&path, &wallet, "p", Cost::LIGHT).is_err());
    }

    #[test]
    fn an_encrypted_key_says_whose_it_is_and_wants_its_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let wallet = random().unwrap();
        store_encrypted(&path, &wallet, "secret", Cost::LIGHT).unwrap();
        let file = KeyFile::read(&path).unwrap();
        assert_eq!(file.kind(), Kind::Encrypted);
        assert_eq!(file.address().unwrap(), Some(wallet.address()));
        let Content::Encrypted(keystore) = &file.content else {
            panic!("a plain file")
        };
        assert_eq!(keystore.open("secret").unwrap().address(), wallet.address());
    }

    #[cfg(unix)]
    #[test]
    fn what_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        store(&path, &random().unwrap()).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_mode(&path, mode);
            let error = KeyFile::read(&path).err().unwrap();
            let text = format!("{error} {error:?}");
            assert!(
                text.contains("read by others") && text.contains(&format!("{mode:o}")),
                "{text}"
            );
        }
        set_mode(&path, 0o400);
        load(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn an_error_never_quotes_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "zz11").unwrap();
        set_mode(&path, 0o600);
        let text = format!("{:?}", load(&path).unwrap_err());
        assert!(
            text.contains("64 hex digits") && !text.contains("zz11"),
            "{text}"
        );
    }

    #[test]
    fn a_name_stands_for_a_wallet_where_no_file_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path();
        let file = there.join("mine.key");
        store(&file, &random().unwrap()).unwrap();
        assert_eq!(resolve(Path::new("mine"), Some(there)), file);
        assert_eq!(resolve(&file, Some(there)), file);
        let missing = Path::new("somebody/else");
        assert_eq!(resolve(missing, Some(there)), missing);
    }
}
