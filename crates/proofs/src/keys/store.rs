//! Keys on disk.
//!
//! | bytes of a file | are |
//! |---|---|
//! | 21 | `convoke-proofs-key-2\n` |
//! | 2 | number of slots, big endian |
//! | 1 | origin: 1 development, 2 ceremony |
//! | 32 | hash of the circuit |
//! | 32 | BLAKE3 of all of the above and of the rest |
//! | rest | the proving key, uncompressed, as arkworks writes it |
//!
//! The file name has the slots, the first 16 digits of the circuit's hash and the origin.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ark_groth16::ProvingKey;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::{Circuit, Keys, Origin, hex};
use crate::error::ProofError;
use crate::progress::{Progress, Stage};
use crate::size::Size;

/// A key file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// Size of its circuit.
    pub size: Size,
    /// Hash of its circuit.
    pub circuit: [u8; 32],
    /// Where the key comes from.
    pub origin: Origin,
    /// Length of the file.
    pub bytes: u64,
}

/// The key files of a folder by name, those of older circuits too. Only heads are read. A folder
/// that is not there has none; files that are no key files are passed over.
///
/// # Errors
/// [`ProofError::KeyFile`].
pub fn list(folder: &Path) -> Result<Vec<KeyFile>, ProofError> {
    let failed = |error: std::io::Error| key_file(folder, &error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "key") {
            continue;
        }
        let failed = |error: std::io::Error| key_file(&path, &error);
        let mut file = File::open(&path).map_err(failed)?;
        let mut head = [0; HEAD_BYTES];
        if file.read_exact(&mut head).is_err() {
            continue;
        }
        let Some(head) = Head::read(&head) else {
            continue;
        };
        found.push(KeyFile {
            bytes: file.metadata().map_err(failed)?.len(),
            size: head.size,
            circuit: head.circuit,
            origin: head.origin,
            path,
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

impl Keys {
    /// The keys of a size from a folder: those of a ceremony if there are any, else those for
    /// development, which are made and kept at the first use (see [`Origin::Development`]).
    ///
    /// Two processes that come at once make them once: the second waits for the first.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] if a file is damaged or the folder cannot be written to: keys are
    /// never replaced, because a contract may rely on them.
    pub fn open_or_make(
        folder: &Path,
        size: Size,
        progress: &dyn Progress,
    ) -> Result<Self, ProofError> {
        progress.at(Stage::Circuit, 0.0);
        let circuit = Circuit::of(size)?;
        if let Some(keys) = open(folder, &circuit, progress)? {
            return Ok(keys);
        }
        fs::create_dir_all(folder).map_err(|error| key_file(folder, &error))?;
        let path = folder.join("convoke-proofs.lock");
        progress.at(Stage::Waiting, 0.0);
        let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
        let _lock = locked.map_err(|error| key_file(&path, &error))?;
        if let Some(keys) = open(folder, &circuit, progress)? {
            return Ok(keys);
        }
        let keys = Self::insecure_setup(size, &mut OsRng.unwrap_err(), progress)?;
        progress.at(Stage::Saving, 0.0);
        keys.save(folder)?;
        progress.at(Stage::Saving, 1.0);
        Ok(keys)
    }

    /// The keys of a size from a folder, those of a ceremony first; `None` if there are none.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] if a file is damaged.
    pub fn open(
        folder: &Path,
        size: Size,
        progress: &dyn Progress,
    ) -> Result<Option<Self>, ProofError> {
        open(folder, &Circuit::of(size)?, progress)
    }

    /// The file that keys of a circuit have in a folder of keys.
    #[must_use]
    pub fn file(folder: &Path, circuit: &Circuit, origin: Origin) -> PathBuf {
        let (slots, hash) = (circuit.size().slots(), hex(&circuit.hash()[..8]));
        folder.join(format!("proofs-{slots}-{hash}-{}.key", origin.name()))
    }

    /// Writes the keys to [`Self::file`] and returns its path. A file that is there is replaced
    /// at once or not at all.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`].
    pub fn save(&self, folder: &Path) -> Result<PathBuf, ProofError> {
        let path = Self::file(folder, &self.circuit, self.origin);
        let bytes = self.encode().map_err(|cause| key_file(&path, &cause))?;
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|error| {
            // What is left is of no use, and an error about it would hide the cause.
            let _ = fs::remove_file(&partial);
            key_file(&path, &error)
        })?;
        Ok(path)
    }

    /// Bytes of the key file.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEAD_BYTES + self.proving.uncompressed_size()
    }

    fn encode(&self) -> Result<Vec<u8>, ark_serialize::SerializationError> {
        let head = Head {
            size: self.circuit.size(),
            origin: self.origin,
            circuit: *self.circuit.hash(),
            checksum: [0; 32],
        };
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend(head.write());
        self.proving.serialize_uncompressed(&mut bytes)?;
        let sum = checksum(&bytes);
        bytes[SUM_AT..HEAD_BYTES].copy_from_slice(&sum);
        Ok(bytes)
    }
}

fn open(
    folder: &Path,
    circuit: &Arc<Circuit>,
    progress: &dyn Progress,
) -> Result<Option<Keys>, ProofError> {
    for origin in [Origin::Ceremony, Origin::Development] {
        let path = Keys::file(folder, circuit, origin);
        progress.at(Stage::Loading, 0.0);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(key_file(&path, &error)),
            Ok(bytes) => {
                let keys = decode(&path, &bytes, circuit, origin)?;
                progress.at(Stage::Loading, 1.0);
                return Ok(Some(keys));
            }
        }
    }
    Ok(None)
}

fn decode(
    path: &Path,
    bytes: &[u8],
    circuit: &Arc<Circuit>,
    origin: Origin,
) -> Result<Keys, ProofError> {
    let head = Head::read(bytes).ok_or_else(|| key_file(path, &"not a key file"))?;
    if head.circuit != *circuit.hash() {
        return Err(ProofError::OtherCircuit {
            expected: hex(circuit.hash()),
            got: hex(&head.circuit),
        });
    }
    if head.origin != origin {
        return Err(key_file(path, &"the name says another origin"));
    }
    if head.checksum != checksum(bytes) {
        return Err(key_file(path, &"the checksum does not match"));
    }
    // Whoever can forge the checksum can put in another key as well, so that it may stand for the
    // points' being on their curves, which takes a minute to check.
    let mut body = &bytes[HEAD_BYTES..];
    let proving = ProvingKey::deserialize_uncompressed_unchecked(&mut body)
        .map_err(|error| key_file(path, &error))?;
    if !body.is_empty() {
        return Err(key_file(path, &"there is more in it than a key"));
    }
    Ok(Keys {
        circuit: Arc::clone(circuit),
        origin,
        proving,
    })
}

/// What a file begins with.
struct Head {
    size: Size,
    origin: Origin,
    circuit: [u8; 32],
    checksum: [u8; 32],
}

impl Head {
    fn write(&self) -> Vec<u8> {
        let origin = match self.origin {
            Origin::Development => 1,
            Origin::Ceremony => 2,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.size.slots() as u16).to_be_bytes());
        bytes.push(origin);
        bytes.extend(self.circuit);
        bytes.extend(self.checksum);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(MAGIC)?;
        let (slots, bytes) = bytes.split_first_chunk::<2>()?;
        let (origin, bytes) = bytes.split_first()?;
        let (circuit, bytes) = bytes.split_first_chunk::<32>()?;
        let (checksum, _) = bytes.split_first_chunk::<32>()?;
        let slots = usize::from(u16::from_be_bytes(*slots));
        Some(Self {
            size: Size::ALL.into_iter().find(|size| size.slots() == slots)?,
            origin: match origin {
                1 => Origin::Development,
                2 => Origin::Ceremony,
                _ => return None,
            },
            circuit: *circuit,
            checksum: *checksum,
        })
    }
}

/// Of all but itself. `bytes` are at least a head.
fn checksum(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..SUM_AT]);
    hasher.update(&bytes[HEAD_BYTES..]);
    *hasher.finalize().as_bytes()
}

fn key_file(path: &Path, cause: &dyn std::fmt::Display) -> ProofError {
    ProofError::KeyFile {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

const MAGIC: &[u8] = b"convoke-proofs-key-2\n";
const SUM_AT: usize = MAGIC.len() + 35;
const HEAD_BYTES: usize = SUM_AT + 32;
