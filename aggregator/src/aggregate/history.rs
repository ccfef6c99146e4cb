//! What trainers have sent since a task began, for rules that go by it.
//!
//! The sum of a trainer's updates is as long as the model. Rules need the angles between such sums
//! only, and those a random projection keeps: values are added up in 4,096 buckets with random
//! signs (Charikar, Chen and Farach-Colton, "Finding Frequent Items in Data Streams", 2002), which
//! changes a cosine by 1/64 in the standard deviation, and not at all in models of no more values than
//! that. A trainer takes 16 kB, however large the model.
//!
//! Who knew the signs could make updates that look unlike others and are not. The seed is drawn once
//! by the aggregator, and stays in its folder.
//!
//! Histories belong to a checkpoint, as moments do: a step begins with its base's and leaves its
//! checkpoint's, so that one that is taken again, after a kill too, is the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use convoke_protocol::ids::{Address, BlobHash};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::output::{remove_files, write_whole};
use crate::error::AggregatorError;
use crate::rules::Geometry;

/// Numbers of a projection.
pub(super) const BUCKETS: usize = 1 << 12;

/// Trainers whose histories are kept; of more, those that have sent nothing for longest are forgotten.
pub const HISTORIES_MAX: usize = 1_024;

/// The histories that belong to a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Histories {
    projection: Projection,
    of: BTreeMap<Address, History>,
}

/// One trainer's.
#[derive(Debug, Clone, PartialEq)]
struct History {
    /// Steps since its last update.
    age: u64,
    sums: Vec<f32>,
}

impl Histories {
    /// Those of a checkpoint in this folder; empty ones before the first step. Draws the seed if there
    /// is none yet, and removes what belongs to other checkpoints: of those it would be stale.
    ///
    /// # Errors
    /// If a file cannot be read or written, or is not what was written.
    pub fn open(dir: &Path, checkpoint: &BlobHash) -> Result<Self, AggregatorError> {
        let projection = Projection {
            seed: seed(&dir.join(SEED))?,
        };
        let path = path(dir, checkpoint);
        let own = path
            .file_name()
            .map(|name| name.as_encoded_bytes().to_vec());
        remove_files(dir, |name| {
            name.ends_with(SUFFIX.as_bytes()) && own.as_deref() != Some(name)
        })?;
        let of = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            bytes => decode(&path, &bytes.map_err(AggregatorError::file(&path))?)?,
        };
        Ok(Self { projection, of })
    }

    /// Writes them for a checkpoint.
    pub(super) fn save(&self, dir: &Path, checkpoint: &BlobHash) -> Result<(), AggregatorError> {
        let mut bytes = Vec::with_capacity(self.of.len() * ENTRY_BYTES);
        for (trainer, history) in &self.of {
            bytes.extend(trainer.0);
            bytes.extend(history.age.to_le_bytes());
            bytes.extend(history.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        }
        write_whole(&path(dir, checkpoint), &bytes)
    }

    pub(super) fn projection(&self) -> &Projection {
        &self.projection
    }

    /// Adds what these trainers have sent now, and gives the inner products of their histories.
    pub(super) fn add(&mut self, trainers: &[Address], projected: &[Vec<f64>]) -> Geometry {
        for history in self.of.values_mut() {
            history.age += 1;
        }
        for (trainer, fresh) in trainers.iter().zip(projected) {
            let history = self.of.entry(*trainer).or_insert_with(|| History {
                age: 0,
                sums: vec![0.0; BUCKETS],
            });
            history.age = 0;
            for (sum, fresh) in history.sums.iter_mut().zip(fresh) {
                *sum = (f64::from(*sum) + fresh).clamp(f32::MIN.into(), f32::MAX.into()) as f32;
            }
        }
        let of = |index: usize| {
            self.of[&trainers[index]]
                .sums
                .iter()
                .copied()
                .map(f64::from)
        };
        let geometry = Geometry::from_fn(trainers.len(), |i, j| {
            of(i).zip(of(j)).map(|(a, b)| a * b).sum()
        });
        while self.of.len() > HISTORIES_MAX {
            let oldest = self.of.iter().max_by_key(|(_, history)| history.age);
            let oldest = oldest.map(|(trainer, _)| *trainer);
            oldest.map(|trainer| self.of.remove(&trainer));
        }
        geometry
    }
}

/// Sums of values in random places with random signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Projection {
    seed: [u8; 32],
}

impl Projection {
    /// Adds the values from `first` on, a row an update, to the sums of each.
    pub(super) fn add(&self, first: u64, rows: &[&[f32]], sums: &mut [Vec<f64>]) {
        let values = rows.first().map_or(0, |row| row.len());
        let mut start = 0;
        while start < values {
            let at = first + start as u64;
            let (block, within) = (at / BUCKETS as u64, (at % BUCKETS as u64) as usize);
            let length = (values - start).min(BUCKETS - within);
            let (signs, turn) = self.block(block);
            for (row, sums) in rows.iter().zip(&mut *sums) {
                let signed = row[start..start + length].iter().zip(&signs[within..]);
                // Turned by some places, so that no two values are always in one bucket.
                let (head, tail) = sums.split_at_mut((within + turn) % BUCKETS);
                let places = tail.iter_mut().chain(head);
                for ((value, sign), sum) in signed.zip(places) {
                    *sum += f64::from(value * sign);
                }
            }
            start += length;
        }
    }

    /// The signs of a block of values, and by how many places it is turned.
    fn block(&self, index: u64) -> (Vec<f32>, usize) {
        let mut random = ChaCha8Rng::from_seed(self.seed);
        random.set_stream(index);
        let turn = random.next_u64() as usize % BUCKETS;
        let word =
            |bits: u64| (0..64).map(move |bit| if bits >> bit & 1 == 1 { -1.0 } else { 1.0 });
        let signs = (0..BUCKETS / 64).flat_map(|_| word(random.next_u64()));
        (signs.collect(), turn)
    }
}

/// The seed in this file, drawn now if there is none.
fn seed(path: &Path) -> Result<[u8; 32], AggregatorError> {
    let drawn = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed: [u8; 32] = rand::rng().random();
            write_whole(path, &seed)?;
            return Ok(seed);
        }
        drawn => drawn.map_err(AggregatorError::file(path))?,
    };
    drawn.try_into().map_err(|_| torn(path))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<BTreeMap<Address, History>, AggregatorError> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() || entries.len() > HISTORIES_MAX {
        return Err(torn(path));
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let (trainer, rest) = bytes.split_first_chunk()?;
        let (age, sums) = rest.split_first_chunk()?;
        let history = History {
            age: u64::from_le_bytes(*age),
            sums: sums
                .as_chunks()
                .0
                .iter()
                .map(|sum| f32::from_le_bytes(*sum))
                .collect(),
        };
        Some((Address(*trainer), history))
    };
    let entries: Option<_> = entries.iter().map(entry).collect();
    entries.ok_or_else(|| torn(path))
}

fn torn(path: &Path) -> AggregatorError {
    AggregatorError::file(path)(std::io::Error::other("this is no file of histories"))
}

fn path(dir: &Path, checkpoint: &BlobHash) -> PathBuf {
    dir.join(format!("{}{SUFFIX}", checkpoint.to_file_name()))
}

/// How the names of files of histories end.
const SUFFIX: &str = ".histories";
/// The file that has the projection's seed.
const SEED: &str = "histories-seed";
/// Address, age and sums.
const ENTRY_BYTES: usize = 20 + 8 + 4 * BUCKETS;
