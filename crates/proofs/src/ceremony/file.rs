//! Transcripts on disk.
//!
//! | bytes | are |
//! |---|---|
//! | 19 | `convoke-ceremony-1\n` |
//! | 2 | number of slots, big endian |
//! | 32 | hash of the circuit |
//! | 1 | phase: 1 or 2 |
//! | 4, 4 | contributions to each phase, big endian |
//! | 32 | BLAKE3 of all of the above and of the rest |
//! | rest | contributions, powers, and in phase 2 contributions and key: points of arkworks, uncompressed, as many as circuit and counts say |

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ark_bn254::{Bn254, G1Affine, G2Affine};
use ark_groth16::{ProvingKey, VerifyingKey};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize, Valid};

use super::contribution::Contribution;
use super::powers::Powers;
use super::{CONTRIBUTIONS_MAX, CeremonyError, Phase, Second, Transcript};
use crate::keys::Circuit;
use crate::points::{g1_words, g2_words};
use crate::size::Size;

impl Transcript {
    /// Writes the transcript. A file that is there is replaced at once or not at all.
    ///
    /// # Errors
    /// [`CeremonyError::File`].
    pub fn save(&self, path: &Path) -> Result<(), CeremonyError> {
        let failed = |cause: &dyn std::fmt::Display| file_error(path, cause);
        let bytes = self.encode().map_err(|error| failed(&error))?;
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(|error| {
            // What is left is of no use, and an error about it would hide the cause.
            let _ = fs::remove_file(&partial);
            failed(&error)
        })
    }

    /// Reads a transcript of a size. All points are checked to be on their curves and in their
    /// subgroups; what they say is for [`Self::verify`].
    ///
    /// # Errors
    /// [`CeremonyError::File`].
    pub fn load(path: &Path, size: Size) -> Result<Self, CeremonyError> {
        let bytes = fs::read(path).map_err(|error| file_error(path, &error))?;
        let circuit = Circuit::of(size)?;
        Self::decode(circuit, &bytes).map_err(|cause| file_error(path, &cause))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ark_serialize::SerializationError> {
        let (phase, later) = match &self.second {
            None => (1, 0),
            Some(second) => (2, second.contributions.len()),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.circuit.size().slots() as u16).to_be_bytes());
        bytes.extend(self.circuit.hash());
        bytes.push(phase);
        for count in [self.first.len(), later] {
            bytes.extend((count as u32).to_be_bytes());
        }
        bytes.extend([0; 32]);
        for contribution in &self.first {
            write(&mut bytes, contribution.after.iter())?;
            write(&mut bytes, contribution.known.iter())?;
        }
        let powers = &self.powers;
        for points in [&powers.tau, &powers.alpha, &powers.beta] {
            write(&mut bytes, points.iter())?;
        }
        write(&mut bytes, powers.tau_g2.iter().chain([&powers.beta_g2]))?;
        if let Some(second) = &self.second {
            for contribution in &second.contributions {
                write(&mut bytes, contribution.after.iter())?;
                write(&mut bytes, contribution.known.iter())?;
            }
            let (g1, g2) = key_points(&second.key);
            write(&mut bytes, g1)?;
            write(&mut bytes, g2)?;
        }
        let sum = checksum(&bytes);
        bytes[SUM_AT..HEAD_BYTES].copy_from_slice(&sum);
        Ok(bytes)
    }

    pub(super) fn decode(circuit: Arc<Circuit>, bytes: &[u8]) -> Result<Self, &'static str> {
        let (phase, [first, later]) = read_head(&circuit, bytes)?;
        let mut reader = Reader(&bytes[HEAD_BYTES..]);
        let first = reader.contributions(first)?;
        // Sizes are the circuit's, whatever the file says.
        let fresh = Powers::start(&circuit).map_err(|_| "the circuit is too large")?;
        let powers = Powers {
            tau: reader.points(fresh.tau.len())?,
            alpha: reader.points(fresh.alpha.len())?,
            beta: reader.points(fresh.beta.len())?,
            tau_g2: reader.points(fresh.tau_g2.len())?,
            beta_g2: reader.point()?,
        };
        let second = match phase {
            Phase::Powers => None,
            Phase::Key => Some(Second {
                contributions: reader.contributions(later)?,
                key: reader.key(&circuit, fresh.alpha.len())?,
            }),
        };
        if !reader.0.is_empty() {
            return Err("there is more in it than a transcript");
        }
        Ok(Self {
            circuit,
            first,
            powers,
            second,
        })
    }
}

/// The phase, and the number of contributions to each.
fn read_head(circuit: &Circuit, bytes: &[u8]) -> Result<(Phase, [usize; 2]), &'static str> {
    let Some((head, _)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Err("not a transcript");
    };
    let head = head.strip_prefix(MAGIC).ok_or("not a transcript")?;
    let (slots, head) = head.split_at(2);
    let (hash, head) = head.split_at(32);
    let (phase, head) = head.split_at(1);
    let (counts, sum) = head.split_at(8);
    if sum != checksum(bytes) {
        return Err("the checksum does not match");
    }
    if slots != (circuit.size().slots() as u16).to_be_bytes() || hash != circuit.hash() {
        return Err("it is of another circuit");
    }
    let count = |at: usize| {
        let bytes = [counts[at], counts[at + 1], counts[at + 2], counts[at + 3]];
        u32::from_be_bytes(bytes) as usize
    };
    let counts = [count(0), count(4)];
    if counts.iter().any(|count| *count > CONTRIBUTIONS_MAX) {
        return Err("there are too many contributions");
    }
    match (phase, counts) {
        ([1], [_, 0]) => Ok((Phase::Powers, counts)),
        ([2], _) => Ok((Phase::Key, counts)),
        _ => Err("there is no such phase"),
    }
}

/// Takes points off untrusted bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn points<P: CanonicalDeserialize + CanonicalSerialize + Valid + Default>(
        &mut self,
        count: usize,
    ) -> Result<Vec<P>, &'static str> {
        let each = P::default().uncompressed_size();
        if self.0.len() / each < count {
            return Err("it is cut off");
        }
        let mut points = Vec::with_capacity(count);
        for _ in 0..count {
            let point = P::deserialize_uncompressed_unchecked(&mut self.0);
            points.push(point.map_err(|_| "a coordinate is out of range")?);
        }
        let good = P::batch_check(points.iter());
        good.map_err(|_| "a point is not on its curve or not in its subgroup")?;
        Ok(points)
    }

    fn point<P: CanonicalDeserialize + CanonicalSerialize + Valid + Default + Copy>(
        &mut self,
    ) -> Result<P, &'static str> {
        Ok(self.points(1)?[0])
    }

    fn contributions<const K: usize>(
        &mut self,
        count: usize,
    ) -> Result<Vec<Contribution<K>>, &'static str> {
        let mut contributions = Vec::new();
        for _ in 0..count {
            let after: Vec<G1Affine> = self.points(K)?;
            let known: Vec<G2Affine> = self.points(K)?;
            contributions.push(Contribution {
                after: std::array::from_fn(|i| after[i]),
                known: std::array::from_fn(|i| known[i]),
            });
        }
        Ok(contributions)
    }

    /// In the order of [`key_points`].
    fn key(&mut self, circuit: &Circuit, rows: usize) -> Result<ProvingKey<Bn254>, &'static str> {
        let columns = circuit.inputs() + circuit.witnesses();
        let (alpha_g1, beta_g1, delta_g1) = (self.point()?, self.point()?, self.point()?);
        let gamma_abc_g1 = self.points(circuit.inputs())?;
        let a_query = self.points(columns)?;
        let b_g1_query = self.points(columns)?;
        let h_query = self.points(rows - 1)?;
        let l_query = self.points(circuit.witnesses())?;
        Ok(ProvingKey {
            vk: VerifyingKey {
                alpha_g1,
                beta_g2: self.point()?,
                gamma_g2: self.point()?,
                delta_g2: self.point()?,
                gamma_abc_g1,
            },
            beta_g1,
            delta_g1,
            a_query,
            b_g1_query,
            h_query,
            l_query,
            b_g2_query: self.points(columns)?,
        })
    }
}

/// All points of a key.
fn key_points(
    key: &ProvingKey<Bn254>,
) -> (
    impl Iterator<Item = &G1Affine>,
    impl Iterator<Item = &G2Affine>,
) {
    let vk = &key.vk;
    let queries = vk.gamma_abc_g1.iter().chain(&key.a_query);
    let queries = queries.chain(&key.b_g1_query).chain(&key.h_query);
    let first = [&vk.alpha_g1, &key.beta_g1, &key.delta_g1].into_iter();
    let twist = [&vk.beta_g2, &vk.gamma_g2, &vk.delta_g2].into_iter();
    (
        first.chain(queries).chain(&key.l_query),
        twist.chain(&key.b_g2_query),
    )
}

/// Hashes all points of a key.
pub(super) fn hash_key(hasher: &mut blake3::Hasher, key: &ProvingKey<Bn254>) {
    let (g1, g2) = key_points(key);
    for point in g1 {
        hasher.update(g1_words(point).as_flattened());
    }
    for point in g2 {
        hasher.update(g2_words(point).as_flattened());
    }
}

fn write<'a, P: CanonicalSerialize + 'a>(
    bytes: &mut Vec<u8>,
    points: impl Iterator<Item = &'a P>,
) -> Result<(), ark_serialize::SerializationError> {
    for point in points {
        point.serialize_uncompressed(&mut *bytes)?;
    }
    Ok(())
}

/// Of all but itself. `bytes` are at least a head.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..SUM_AT]);
    hasher.update(&bytes[HEAD_BYTES..]);
    *hasher.finalize().as_bytes()
}

fn file_error(path: &Path, cause: &dyn std::fmt::Display) -> CeremonyError {
    CeremonyError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

const MAGIC: &[u8] = b"convoke-ceremony-1\n";
pub(super) const SUM_AT: usize = MAGIC.len() + 43;
pub(super) const HEAD_BYTES: usize = SUM_AT + 32;
