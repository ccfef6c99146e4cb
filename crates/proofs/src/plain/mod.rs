//! What the circuit proves, in integers and without a field: the keep rule `gram`, the scores and
//! the split.
//!
//! With Gᵢⱼ = ⟨sᵢ, sⱼ⟩, nᵢ = Gᵢᵢ, cᵢ = sᵢ − mean of the members, dᵢ = |cᵢ|² and
//! Pᵢⱼ = |sᵢ − sⱼ|², each rule over those that the rules before it left:
//!
//! 1. alive: 64 nᵢ ≥ lower median of n;
//! 2. copies: j goes if some alive i < j has 3 Pᵢⱼ < D and 2 Pᵢⱼ < nᵢ + nⱼ, with D the lower
//!    median of d over the alive;
//! 3. energy, in rounds of at least [`ENERGY_FROM`] updates, three times: with
//!    qᵢ = Σ_{j≠i} ⟨cᵢ, cⱼ⟩², i goes if qᵢ / dᵢ is above twice the lower median of q / d;
//! 4. score: max(0, ⟨sᵢ, Σ kept s⟩) of the kept, 0 of the others;
//! 5. payout: ⌊pool × wᵢ / Σ w⌋ with wᵢ = scoreᵢ × factorᵢ.
//!
//! Vectors around the mean of m are multiplied by m, so that everything stays whole: see
//! [`CENTRED_BITS`]. With n ≤ 2²¹ and m ≤ 2⁸, m² d < 2³⁹ and m⁴ q < 2⁸⁶, so that products of two
//! of them, by which fractions are compared, stay below 2¹²⁶.
//!
//! No direction is judged. Near the optimum honest deltas oppose each other (each undoes the
//! averaging of the last round), so that their cosines say nothing; what points the wrong way is
//! found by the validators' held-out data.
//!
//! This is the one implementation: aggregators decide by it, and the circuit proves it.

mod split;
mod trace;

pub use self::split::Split;
pub(crate) use self::trace::{Pass, Trace};
use crate::size::Size;

/// Length of a sketch, k.
pub const SKETCH_LEN: usize = 128;

/// The energy passes run in rounds of at least so many updates. With fewer, the median energy is
/// that of a few trainers, and honest ones whose data is alike stand out: on Fashion-MNIST,
/// Dirichlet 0.5, 4% of the honest are refused with 10 to 20 trainers, none with 100.
pub const ENERGY_FROM: usize = 32;

/// Passes of the energy rule.
pub const ENERGY_PASSES: usize = 3;

/// n ≤ 128 · 128² = 2²¹.
pub const NORM_BITS: usize = 22;

/// d ≤ 128 · 255² < 2²³; the circuit's m² d is below 2^(23 + 2 log₂ N).
pub const CENTRED_BITS: usize = 23;

/// A quantized sketch.
pub type Sketch = [i8; SKETCH_LEN];

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no update in this slot.
    Absent,
    /// It counts.
    Kept,
    /// It does not.
    Refused(Reason),
}

/// Why an update does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 64 n is less than the median n.
    NoWork {
        /// n over the median n, in millionths.
        ratio_ppm: u64,
    },
    /// Close to an earlier one.
    Copy {
        /// The slot of the earliest of those.
        of: usize,
    },
    /// q / d is above twice its median.
    Colluding {
        /// q / d over its median, in percent, at most [`ENERGY_PERCENT_MAX`].
        energy_percent: u64,
    },
}

impl Verdict {
    /// Why it does not count, if there is an update at all.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(reason) => Some(*reason),
            Self::Absent | Self::Kept => None,
        }
    }
}

/// The outcome of a round, by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Who is kept, and why the others are not.
    pub verdicts: Vec<Verdict>,
    /// max(0, ⟨sᵢ, Σ kept s⟩); 0 for those not kept. The Shapley values of the game whose value
    /// is the energy |Σ s|² of the step.
    pub scores: Vec<u64>,
}

impl Judgement {
    /// Slots that are kept.
    pub fn kept(&self) -> impl Iterator<Item = usize> {
        let verdicts = self.verdicts.iter().enumerate();
        verdicts.filter_map(|(slot, verdict)| (*verdict == Verdict::Kept).then_some(slot))
    }
}

/// Applies the rule to sketches in the order of their commitments, which matters to copies only;
/// `None` is an empty slot. Empty slots at the end change nothing.
///
/// # Panics
/// With more than [`Size::SLOTS_MAX`] sketches, for which numbers are not known to fit.
#[must_use]
pub fn judge(sketches: &[Option<Sketch>]) -> Judgement {
    assert!(
        sketches.len() <= Size::SLOTS_MAX,
        "the state machine bounds cohorts"
    );
    let trace = Trace::of(sketches);
    let verdict = |slot: usize| match () {
        () if sketches[slot].is_none() => Verdict::Absent,
        () if trace.kept[slot] => Verdict::Kept,
        () => Verdict::Refused(trace.reason(slot)),
    };
    Judgement {
        verdicts: (0..sketches.len()).map(verdict).collect(),
        scores: trace.scores(),
    }
}

/// A larger share than this is not told apart in texts.
pub const ENERGY_PERCENT_MAX: u64 = 1_000_000;
