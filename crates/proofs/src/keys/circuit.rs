//! Circuits as matrices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use ark_relations::gr1cs::{
    ConstraintSystem, ConstraintSystemRef, Matrix, OptimizationGoal, R1CS_PREDICATE_LABEL,
    SynthesisMode,
};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};

use crate::builder::{Backend, Builder};
use crate::circuit::synthesize;
use crate::error::ProofError;
use crate::plain::SKETCH_LEN;
use crate::public_data::RoundContext;
use crate::size::Size;
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
    /// The circuit of a size, written down once a process: it takes a second for 64 trainers, and
    /// some 200 bytes a constraint of memory from then on.
    ///
    /// # Errors
    /// [`ProofError::Synthesis`], which would be a bug of ours.
    pub fn of(size: Size) -> Result<Arc<Self>, ProofError> {
        static CIRCUITS: Mutex<BTreeMap<Size, Arc<Circuit>>> = Mutex::new(BTreeMap::new());
        // Whoever panicked here left the map as it was.
        let mut circuits = CIRCUITS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(circuit) = circuits.get(&size) {
            return Ok(Arc::clone(circuit));
        }
        let circuit = Arc::new(Self::write(size)?);
        circuits.insert(size, Arc::clone(&circuit));
        Ok(circuit)
    }

    fn write(size: Size) -> Result<Self, ProofError> {
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

    /// A circuit of given rows, whatever they say.
    #[cfg(test)]
    pub(crate) fn of_matrices(
        size: Size,
        inputs: usize,
        witnesses: usize,
        matrices: Vec<Matrix<Fr>>,
    ) -> Self {
        Self {
            size,
            hash: hash_matrices(size, &matrices),
            costs: BTreeMap::new(),
            inputs,
            witnesses,
            matrices,
        }
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
