//! Circuits as matrices, and their keys: set-up, files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ark_bn254::{Bn254, Fr};
use ark_ff::{BigInteger, PrimeField};
use ark_groth16::{Groth16, ProvingKey};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, ConstraintSystemRef, Matrix, OptimizationGoal,
    R1CS_PREDICATE_LABEL, SynthesisError, SynthesisMode,
};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use rand::{CryptoRng, RngCore};

use crate::builder::{Backend, Builder};
use crate::circuit::synthesize;
use crate::error::ProofError;
use crate::plain::SKETCH_LEN;
use crate::public_data::RoundContext;
use crate::rng::ArkRng;
use crate::size::Size;
use crate::verifying::VerifyingKey;
use crate::witness::{Entry, RoundWitness, Witness};

/// The constraints of one size.
#[derive(Debug)]
pub struct Circuit {
    size: Size,
    hash: [u8; 32],
    costs: BTreeMap<&'static str, usize>,
    inputs: usize,
    witnesses: usize,
    /// A, B and C by row.
    matrices: Vec<Matrix<Fr>>,
}

impl Circuit {
    /// Writes down the circuit. Seconds for 64 trainers.
    ///
    /// # Errors
    /// [`ProofError::Synthesis`], which would be a bug of ours.
    pub fn new(size: Size) -> Result<Self, ProofError> {
        let system = ConstraintSystem::new_ref();
        system.set_optimization_goal(OptimizationGoal::Constraints);
        system.set_mode(SynthesisMode::Setup);
        let costs = write_down(size, &system)?;
        system.finalize();
        let mut matrices = system.to_matrices()?;
        let matrices = matrices.remove(R1CS_PREDICATE_LABEL).unwrap_or_default();
        Ok(Self {
            size,
            hash: hash_matrices(size, &matrices),
            costs,
            inputs: system.num_instance_variables(),
            witnesses: system.num_witness_variables(),
            matrices,
        })
    }

    /// The size.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// BLAKE3 of the constraint matrices, which names the keys.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Number of constraints.
    #[must_use]
    pub fn constraints(&self) -> usize {
        self.matrices.first().map_or(0, Vec::len)
    }

    /// Constraints by part of the circuit.
    #[must_use]
    pub fn costs(&self) -> &BTreeMap<&'static str, usize> {
        &self.costs
    }

    /// Number of entries of the matrices that are not 0: what writing down and proving cost
    /// besides the constraints.
    #[must_use]
    pub fn density(&self) -> usize {
        self.matrices.iter().flatten().map(Vec::len).sum()
    }

    /// Number of variables that occur in each of the matrices: what the prover's sums are over.
    #[must_use]
    pub fn occurring(&self) -> Vec<usize> {
        let columns = |matrix: &Matrix<Fr>| {
            let entries = matrix.iter().flatten().map(|(_, column)| *column);
            entries.collect::<BTreeSet<_>>().len()
        };
        self.matrices.iter().map(columns).collect()
    }

    pub(crate) fn matrices(&self) -> &[Matrix<Fr>] {
        &self.matrices
    }

    /// Public variables, the constant 1 included.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Private variables.
    #[must_use]
    pub fn witnesses(&self) -> usize {
        self.witnesses
    }
}

/// A circuit with its proving key.
#[derive(Debug)]
pub struct Keys {
    circuit: Circuit,
    proving: ProvingKey<Bn254>,
}

impl Keys {
    /// **Insecure: for development and tests.** One machine draws the set-up's secrets and is
    /// trusted to forget them; whoever knows them can prove anything. In production the keys come
    /// from a ceremony of many parties, one of whom has to be honest.
    ///
    /// Some 20 s for 64 trainers on two cores.
    ///
    /// # Errors
    /// [`ProofError::Synthesis`], which would be a bug of ours.
    pub fn insecure_setup<R: RngCore + CryptoRng>(
        size: Size,
        rng: &mut R,
    ) -> Result<Self, ProofError> {
        let circuit = Circuit::new(size)?;
        let proving = Groth16::<Bn254>::generate_random_parameters_with_reduction(
            AnyRound { size },
            &mut ArkRng(rng),
        )?;
        Ok(Self { circuit, proving })
    }

    /// The circuit.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    pub(crate) fn proving(&self) -> &ProvingKey<Bn254> {
        &self.proving
    }

    /// What verifies the proofs made with these keys.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey::new(self.circuit.size, self.circuit.hash, &self.proving.vk)
    }

    /// The file that keys of a circuit have in a folder of keys.
    #[must_use]
    pub fn file(folder: &Path, circuit: &Circuit) -> PathBuf {
        let hash: String = hex(&circuit.hash[..8]);
        folder.join(format!(
            "convoke-proofs-{}-{hash}.key",
            circuit.size.slots()
        ))
    }

    /// Writes the proving key to [`Self::file`] and returns its path: magic, circuit hash, BLAKE3
    /// of what follows, key with uncompressed points. A file that is there is replaced at once or
    /// not at all.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`].
    pub fn save(&self, folder: &Path) -> Result<PathBuf, ProofError> {
        let path = Self::file(folder, &self.circuit);
        let mut key = Vec::with_capacity(self.proving.uncompressed_size());
        let encoded = self.proving.serialize_uncompressed(&mut key);
        encoded.map_err(|error| key_file(&path, &error))?;
        let partial = path.with_extension("partial");
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = fs::File::create(&partial)?;
            file.write_all(MAGIC)?;
            file.write_all(&self.circuit.hash)?;
            file.write_all(blake3::hash(&key).as_bytes())?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|error| key_file(&path, &error))?;
        Ok(path)
    }

    /// Reads the keys of a circuit from a folder.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] if there are none or they are damaged, and
    /// [`ProofError::OtherCircuit`] if they are for another circuit.
    pub fn load(folder: &Path, circuit: Circuit) -> Result<Self, ProofError> {
        let path = Self::file(folder, &circuit);
        let bytes = fs::read(&path).map_err(|error| key_file(&path, &error))?;
        let (head, key) = bytes
            .split_at_checked(HEAD_BYTES)
            .filter(|(head, _)| head.starts_with(MAGIC))
            .ok_or_else(|| key_file(&path, &"not a key file"))?;
        let (hash, checksum) = head[MAGIC.len()..].split_at(32);
        if hash != circuit.hash {
            return Err(ProofError::OtherCircuit {
                expected: hex(&circuit.hash),
                got: hex(hash),
            });
        }
        if blake3::hash(key).as_bytes() != checksum {
            return Err(key_file(&path, &"the checksum does not match"));
        }
        // The checksum stands for the points' being on the curve.
        let proving = ProvingKey::deserialize_uncompressed_unchecked(key)
            .map_err(|error| key_file(&path, &error))?;
        Ok(Self { circuit, proving })
    }
}

fn key_file(path: &Path, cause: &dyn std::fmt::Display) -> ProofError {
    ProofError::KeyFile {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The constraints do not depend on the round.
struct AnyRound {
    size: Size,
}

impl ConstraintSynthesizer<Fr> for AnyRound {
    fn generate_constraints(self, system: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        match write_down(self.size, &system) {
            Ok(_) => Ok(()),
            Err(ProofError::Synthesis(error)) => Err(error),
            Err(_) => Err(SynthesisError::AssignmentMissing),
        }
    }
}

fn write_down(
    size: Size,
    system: &ConstraintSystemRef<Fr>,
) -> Result<BTreeMap<&'static str, usize>, ProofError> {
    let entry = Entry {
        trainer: Address::ZERO,
        sketch: Some([1; SKETCH_LEN]),
        factor: 1,
    };
    let round = RoundWitness {
        context: RoundContext {
            chain_id: 0,
            contract: Address::ZERO,
            task: TaskId(0),
            round: RoundId(0),
            attempt: 0,
            seed: Digest::ZERO,
        },
        bound: Digest::ZERO,
        pool: Amount(1),
        entries: vec![entry],
    };
    let (witness, _) = Witness::new(size, &round)?;
    let mut builder = Builder::new(Backend::System(system.clone()));
    synthesize(&mut builder, &witness, &|h| (h, h));
    Ok(builder.finish()?.0)
}

fn hash_matrices(size: Size, matrices: &[Matrix<Fr>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(size.slots() as u64).to_le_bytes());
    for matrix in matrices {
        hasher.update(&(matrix.len() as u64).to_le_bytes());
        for row in matrix {
            hasher.update(&(row.len() as u64).to_le_bytes());
            for (coefficient, column) in row {
                hasher.update(&coefficient.into_bigint().to_bytes_le());
                hasher.update(&(*column as u64).to_le_bytes());
            }
        }
    }
    *hasher.finalize().as_bytes()
}

const MAGIC: &[u8] = b"convoke-proofs-key-1\n";

const HEAD_BYTES: usize = MAGIC.len() + 64;
