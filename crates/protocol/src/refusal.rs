//! Why an update is refused. Each refusal names one trainer and one reason; nobody else is
//! punished for it.

use serde::{Deserialize, Serialize};

use crate::ids::{Address, BlobHash, Digest};
use crate::sketch::Norm;

/// The reason, with what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Trained from another checkpoint than the round's; in a buffered task from one that lies too
    /// far back, or that the trainer has had an update from.
    #[error("stale: based on checkpoint {got}, the round starts from {expected}")]
    Stale {
        /// The base in the header.
        got: BlobHash,
        /// The round's base.
        expected: BlobHash,
    },
    /// The blob cannot be a delta of this model.
    #[error("the delta has {got} bytes, {expected} are due")]
    DeltaLength {
        /// Length announced.
        got: u64,
        /// Length of every delta of the task: that of a checkpoint, whose layout it must have, or
        /// what the task's codec makes of it.
        expected: u64,
    },
    /// Tensor names, types or shapes differ from the checkpoint's.
    #[error("the delta's tensors are not the model's: {0}")]
    Layout(String),
    /// A value is NaN or infinite.
    #[error("the delta's value {index} is {value}")]
    NotFinite {
        /// Index of the first such value in the flat delta.
        index: u64,
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// The header's norm is not the delta's.
    #[error("the delta's norm is {actual:e}, not {claimed:e}", actual = actual.value(), claimed = claimed.value())]
    WrongNorm {
        /// The norm in the header.
        claimed: Norm,
        /// The delta's.
        actual: Norm,
    },
    /// The header's root is not that of the delta's chunks.
    #[error("the root over the delta's chunks is {actual}, not {claimed}")]
    WrongRoot {
        /// The root in the header.
        claimed: Digest,
        /// The delta's.
        actual: Digest,
    },
    /// The trainer signed a sketch that is not its delta's.
    #[error("signed a sketch that is not its delta's")]
    WrongSketch,
    /// No examples claimed.
    #[error("trained on no examples")]
    NoExamples,
    /// Two different updates were signed for one round.
    #[error("two different updates were signed for this round")]
    Equivocation,
    /// The very delta that another trainer committed to earlier.
    #[error("a copy of the delta of {of}")]
    Copy {
        /// Who was first.
        of: Address,
    },
    /// The delta is next to nothing beside the others': 64 nᵢ < median n.
    #[error("the delta is next to nothing (a {ratio_ppm}-millionth of the median energy)")]
    NoWork {
        /// nᵢ over the median n, in millionths.
        ratio_ppm: u64,
    },
    /// Agrees with others more than honest trainers do: q D / d above twice its median.
    #[error(
        "agrees with other updates {energy_percent}% as much as the median update, at most 200% is plausible"
    )]
    Colluding {
        /// q D / d over its median, in percent.
        energy_percent: u64,
    },
    /// Alone, it raises the validators' held-out loss by more than a tenth.
    #[error("raises held-out loss by {:.3} from {:.3} nats", -(*gain_micros as f64) / 1e6, *base_loss_micros as f64 / 1e6)]
    Harmful {
        /// Combined held-out gain, millionths of a nat; negative for harm.
        gain_micros: i64,
        /// Combined held-out loss of the base, millionths of a nat.
        base_loss_micros: u64,
    },
    /// It has no more in common with anything than noise has.
    #[error(
        "looks like noise: {:.1} times as related to the others as noise would be, at least {:.1} times is expected",
        f64::from(*relatedness_milli) / 1e3, f64::from(*least_milli) / 1e3
    )]
    Noise {
        /// Combined relatedness, in thousandths of what noise has.
        relatedness_milli: u32,
        /// The smallest that is accepted.
        least_milli: u32,
    },
    /// It goes against the direction in which the validators' held-out loss falls.
    #[error(
        "goes against the descent of held-out loss: cosine {:.3}, more than {:.3} is expected",
        f64::from(*cosine_ppm) / 1e6, f64::from(*least_ppm) / 1e6
    )]
    OffCourse {
        /// Combined cosine with the validators' reference steps, millionths.
        cosine_ppm: i32,
        /// At this and below it is refused.
        least_ppm: i32,
    },
    /// Validators holding most of the stake could not evaluate it.
    #[error("the validators could not evaluate it")]
    NotEvaluable,
    /// The blob is not what the task's codec makes of any delta.
    #[error("the delta is not encoded as the task wants it: {0}")]
    Encoding(String),
}

/// Characters of a reason's free text that are kept; it may quote what a peer sent.
const TEXT_MAX: usize = 200;

impl Refusal {
    /// The same with its free text cut at 200 characters.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Layout(text) => Self::Layout(text.chars().take(TEXT_MAX).collect()),
            Self::Encoding(text) => Self::Encoding(text.chars().take(TEXT_MAX).collect()),
            other => other,
        }
    }

    /// A stable word for the reason, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stale { .. } => "stale",
            Self::DeltaLength { .. } => "delta_length",
            Self::Layout(_) => "layout",
            Self::NotFinite { .. } => "not_finite",
            Self::WrongNorm { .. } => "wrong_norm",
            Self::WrongRoot { .. } => "wrong_root",
            Self::WrongSketch => "wrong_sketch",
            Self::NoExamples => "no_examples",
            Self::Equivocation => "equivocation",
            Self::Copy { .. } => "copy",
            Self::NoWork { .. } => "no_work",
            Self::Colluding { .. } => "colluding",
            Self::Harmful { .. } => "harmful",
            Self::Noise { .. } => "noise",
            Self::OffCourse { .. } => "off_course",
            Self::NotEvaluable => "not_evaluable",
            Self::Encoding(_) => "encoding",
        }
    }
}
