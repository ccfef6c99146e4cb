//! All that a prover claims, in integers. The circuit derives the rest.

use convoke_protocol::factors::FACTOR_MAX;
use convoke_protocol::ids::{Address, Amount, Digest};

use crate::error::ProofError;
use crate::plain::{ENERGY_FROM, SKETCH_LEN, Sketch, Split, Trace};
use crate::public_data::{Commitment, PublicData, RoundContext, Slot};
use crate::size::Size;

/// One update that takes part in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who sent it.
    pub(crate) trainer: Address,
    /// Its sketch; `None` if it was refused before the filter.
    pub(crate) sketch: Option<Sketch>,
    /// The validators' combined factor.
    pub(crate) factor: u16,
}

/// A round as the prover knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoundWitness {
    /// Where and when.
    pub(crate) context: RoundContext,
    /// Whatever else the proof is to be tied to.
    pub(crate) bound: Digest,
    /// What the trainers share; base units.
    pub(crate) pool: Amount,
    /// In the order of the updates' commitments.
    pub(crate) entries: Vec<Entry>,
}

impl RoundWitness {
    /// Judges the round: the statement that can be proven about it.
    ///
    /// # Errors
    /// [`ProofError::NothingToPay`] if nobody has weight, or if the round does not fit.
    #[cfg(test)]
    pub(crate) fn data(&self, size: Size) -> Result<PublicData, ProofError> {
        Ok(Witness::new(size, self)?.1)
    }
}

/// The circuit's private values that are not products of others. Tests falsify them.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    pub(crate) size: Size,
    pub(crate) context: RoundContext,
    pub(crate) pool: u128,
    pub(crate) active: Vec<bool>,
    pub(crate) trainers: Vec<Address>,
    pub(crate) factors: Vec<u16>,
    pub(crate) sketches: Vec<Sketch>,
    /// Gᵢⱼ, symmetric.
    pub(crate) gram: Vec<Vec<i64>>,
    pub(crate) norm_median: i64,
    pub(crate) norm_median_at: usize,
    pub(crate) norm_low: Vec<bool>,
    pub(crate) alive: Vec<bool>,
    pub(crate) rows: Vec<i64>,
    pub(crate) spread: i128,
    pub(crate) spread_at: usize,
    pub(crate) spread_low: Vec<bool>,
    pub(crate) near: i64,
    pub(crate) partner: Vec<Option<usize>>,
    /// j is refused as a copy.
    pub(crate) copied: Vec<bool>,
    /// Of i < j: P ≥ ⌈D / 3⌉ is shown, instead of 2 P ≥ nᵢ + nⱼ.
    pub(crate) far: Vec<Vec<bool>>,
    /// The energy passes apply.
    pub(crate) applies: bool,
    pub(crate) passes: Vec<PassWitness>,
    pub(crate) kept_rows: Vec<i64>,
    pub(crate) payouts: Vec<u128>,
    pub(crate) remainders: Vec<u64>,
}

/// One energy pass.
#[derive(Debug, Clone)]
pub(crate) struct PassWitness {
    pub(crate) q_median: i128,
    pub(crate) d_median: i128,
    pub(crate) at: usize,
    pub(crate) low: Vec<bool>,
    pub(crate) above: Vec<bool>,
}

impl Witness {
    pub(crate) fn new(size: Size, round: &RoundWitness) -> Result<(Self, PublicData), ProofError> {
        check(size, round)?;
        let slots = size.slots();
        let pad = |i: usize| round.entries.get(i);
        let sketches: Vec<Option<Sketch>> = (0..slots)
            .map(|i| pad(i).and_then(|entry| entry.sketch))
            .collect();
        let factors: Vec<u16> = (0..slots).map(|i| pad(i).map_or(0, |e| e.factor)).collect();
        let trainers: Vec<Address> = (0..slots)
            .map(|i| pad(i).map_or(Address::ZERO, |entry| entry.trainer))
            .collect();
        let trace = Trace::of(&sketches);
        let split = Split::down(round.pool.0, &trace.scores(), &factors)?;
        let slot = |i: usize| Slot {
            active: sketches[i].is_some(),
            trainer: trainers[i],
            commitment: sketches[i].map_or(Commitment::NONE, |sketch| {
                Commitment::of(&sketch, trainers[i], &round.context)
            }),
            factor: factors[i],
            payout: Amount(split.payouts[i]),
        };
        let statement = PublicData {
            size,
            context: round.context,
            bound: round.bound,
            pool: round.pool,
            slots: (0..slots).map(slot).collect(),
        };
        let parties = Parties {
            trainers,
            factors,
            sketches,
        };
        Ok((
            Self::assemble(size, round, parties, &trace, split),
            statement,
        ))
    }

    fn assemble(
        size: Size,
        round: &RoundWitness,
        parties: Parties,
        trace: &Trace,
        split: Split,
    ) -> Self {
        let norm_at = trace.norms.at;
        let count = parties.sketches.iter().flatten().count();
        Self {
            applies: count >= ENERGY_FROM,
            size,
            context: round.context,
            pool: round.pool.0,
            active: parties.sketches.iter().map(Option::is_some).collect(),
            trainers: parties.trainers,
            factors: parties.factors,
            sketches: parties
                .sketches
                .into_iter()
                .map(|sketch| sketch.unwrap_or([0; SKETCH_LEN]))
                .collect(),
            norm_median: trace.gram[norm_at][norm_at],
            norm_median_at: norm_at,
            norm_low: trace.norms.low.clone(),
            alive: trace.alive.clone(),
            rows: trace.rows.clone(),
            spread: trace.centred[trace.spread.at],
            spread_at: trace.spread.at,
            spread_low: spread_low(trace),
            near: trace.near,
            partner: trace.partner.clone(),
            copied: trace.partner.iter().map(Option::is_some).collect(),
            far: far(trace),
            passes: trace.passes.iter().map(PassWitness::of).collect(),
            kept_rows: trace.kept_rows.clone(),
            payouts: split.payouts,
            remainders: split.remainders,
            gram: trace.gram.clone(),
        }
    }
}

/// Who takes part, by slot.
struct Parties {
    trainers: Vec<Address>,
    factors: Vec<u16>,
    sketches: Vec<Option<Sketch>>,
}

impl PassWitness {
    fn of(pass: &crate::plain::Pass) -> Self {
        let (q_median, d_median) = pass.energy[pass.median.at];
        Self {
            q_median,
            d_median,
            at: pass.median.at,
            low: pass.median.low.clone(),
            above: pass.above.clone(),
        }
    }
}

fn check(size: Size, round: &RoundWitness) -> Result<(), ProofError> {
    if round.entries.len() > size.slots() {
        return Err(ProofError::TooManySlots {
            got: round.entries.len(),
            expected: size.slots(),
        });
    }
    let mut entries = round.entries.iter().enumerate();
    match entries.find(|(_, entry)| entry.factor > FACTOR_MAX) {
        Some((slot, entry)) => Err(ProofError::FactorTooHigh {
            slot,
            factor: entry.factor,
        }),
        None => Ok(()),
    }
}

/// The lower half among the alive; of the others, which side of the median they are on.
fn spread_low(trace: &Trace) -> Vec<bool> {
    let median = trace.centred[trace.spread.at];
    let side = |i: usize| match trace.alive[i] {
        true => trace.spread.low[i],
        false => trace.centred[i] <= median,
    };
    (0..trace.alive.len()).map(side).collect()
}

/// Which inequality shows that a pair is no copy. Pairs of which nothing is to be shown take the
/// one that always has room.
fn far(trace: &Trace) -> Vec<Vec<bool>> {
    let gram = &trace.gram;
    let far = |i: usize, j: usize| {
        let counts = trace.alive[i] && trace.alive[j] && trace.partner[j].is_none();
        !counts || gram[i][i] + gram[j][j] - 2 * gram[i][j] >= trace.near
    };
    let slots = trace.alive.len();
    (0..slots)
        .map(|i| (0..slots).map(|j| far(i, j)).collect())
        .collect()
}
