//! The keep rule `gram`: who is kept, from the inner products of the sketches alone, in
//! integers.
//!
//! With Gᵢⱼ = ⟨sᵢ, sⱼ⟩, nᵢ = Gᵢᵢ, cᵢ = sᵢ − mean of the kept, dᵢ = |cᵢ|², D = lower median of d
//! and Pᵢⱼ = |sᵢ − sⱼ|²:
//!
//! 1. alive: 64 nᵢ ≥ median n;
//! 2. copies: i and j are close if 3 Pᵢⱼ < D and 2 Pᵢⱼ < nᵢ + nⱼ; the later one goes;
//! 3. energy, in rounds of at least [`ENERGY_FROM`] updates, three passes over those still
//!    kept: with qᵢ = Σ_{j≠i} ⟨cᵢ, cⱼ⟩², qᵢ D / dᵢ is at most twice its median (D is the same
//!    for all of a pass, and cancels).
//!
//! No direction is judged here. Near the optimum honest deltas oppose each other (each undoes
//! the averaging of the last round), so that their cosines say nothing; what points the wrong
//! way is found by the validators' held-out data.
//!
//! Vectors around the mean of m are multiplied by m, so that everything stays whole: with
//! n ≤ 2²¹ and m ≤ 2⁸, |m cᵢ|² ≤ 2³⁹, m⁴ qᵢ < 2⁸⁶, and the cross products of two fractions
//! q / d stay below 2¹²⁶.

use crate::sketch::Sketch;

/// Trainers in one cohort at most; the bounds above rest on it.
pub const TRAINERS_MAX: usize = 256;

/// Largest norm squared that is admitted, that of a sketch of nothing but 127.
pub const NORM_SQUARED_MAX: i64 = 1 << 21;

/// The energy passes run with at least so many updates. With fewer, the median energy is that of
/// a few trainers, and honest ones whose data is alike stand out: on Fashion-MNIST, Dirichlet
/// 0.5, 4% of the honest are refused with 10 to 20 trainers, none with 100.
pub const ENERGY_FROM: usize = 32;

/// All inner products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gram {
    count: usize,
    entries: Vec<i64>,
}

impl Gram {
    /// Of sketches, in their order.
    ///
    /// # Panics
    /// With more than [`TRAINERS_MAX`] sketches.
    #[must_use]
    pub fn of(sketches: &[Sketch]) -> Self {
        Self::from_fn(sketches.len(), |i, j| sketches[i].dot(&sketches[j]))
    }

    /// From a function of two indices, the larger one first.
    ///
    /// # Panics
    /// With more than [`TRAINERS_MAX`] vectors, or a diagonal above [`NORM_SQUARED_MAX`].
    #[must_use]
    pub fn from_fn(count: usize, dot: impl Fn(usize, usize) -> i64) -> Self {
        assert!(count <= TRAINERS_MAX, "the state machine bounds cohorts");
        let entry = |index: usize| {
            let (i, j) = (index / count, index % count);
            dot(i.max(j), i.min(j))
        };
        let gram = Self {
            count,
            entries: (0..count * count).map(entry).collect(),
        };
        assert!(
            (0..count).all(|i| gram.at(i, i) <= NORM_SQUARED_MAX),
            "sketch values are bytes"
        );
        gram
    }

    /// Number of vectors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// ⟨sᵢ, sⱼ⟩
    #[must_use]
    pub fn at(&self, i: usize, j: usize) -> i64 {
        self.entries[i * self.count + j]
    }

    /// nᵢ = |sᵢ|²
    #[must_use]
    pub fn norm_squared(&self, i: usize) -> i64 {
        self.at(i, i)
    }

    /// Pᵢⱼ = |sᵢ − sⱼ|²
    #[must_use]
    pub fn distance_squared(&self, i: usize, j: usize) -> i64 {
        self.at(i, i) + self.at(j, j) - 2 * self.at(i, j)
    }

    /// ⟨sᵢ, Σ s⟩ over `members`.
    #[must_use]
    pub fn row_sum(&self, i: usize, members: &[usize]) -> i64 {
        members.iter().map(|j| self.at(i, *j)).sum()
    }
}

/// Why one vector is not kept; `usize` is its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// 64 n is less than the median n.
    NoWork {
        /// n over the median n, in millionths.
        ratio_ppm: u64,
    },
    /// Close to an earlier one.
    Copy {
        /// The earliest of those.
        of: usize,
    },
    /// q D / d is above twice its median.
    Colluding {
        /// q D / d over its median, in percent.
        energy_percent: u64,
    },
}

/// Applies the rule: for each vector the reason why it is not kept, or `None`. Vectors are in
/// the order of their commitments, which matters to copies only.
#[must_use]
pub fn keep_rule(gram: &Gram) -> Vec<Option<Reason>> {
    let mut refused = Refused(vec![None; gram.count()]);
    drop_idle(gram, &mut refused);
    drop_copies(gram, &mut refused);
    if gram.count() >= ENERGY_FROM {
        for _ in 0..ENERGY_PASSES {
            drop_colluding(gram, &mut refused);
        }
    }
    refused.0
}

/// max(0, ⟨sᵢ, S⟩) with S = Σ kept s for the kept, 0 for the others: the Shapley values of the
/// game whose value is the energy |S|² of the step.
#[must_use]
pub fn alignment(gram: &Gram, refused: &[Option<Reason>]) -> Vec<u64> {
    let kept = kept(refused);
    let score = |(i, reason): (usize, &Option<Reason>)| match reason {
        Some(_) => 0,
        None => u64::try_from(gram.row_sum(i, &kept)).unwrap_or(0),
    };
    refused.iter().enumerate().map(score).collect()
}

/// Decisions so far.
struct Refused(Vec<Option<Reason>>);

impl Refused {
    fn kept(&self) -> Vec<usize> {
        kept(&self.0)
    }
}

fn kept(refused: &[Option<Reason>]) -> Vec<usize> {
    (0..refused.len())
        .filter(|i| refused[*i].is_none())
        .collect()
}

fn drop_idle(gram: &Gram, refused: &mut Refused) {
    let norms: Vec<i64> = (0..gram.count()).map(|i| gram.norm_squared(i)).collect();
    let median = lower_median(&norms, i64::cmp).unwrap_or(0);
    for (norm, refused) in norms.into_iter().zip(&mut refused.0) {
        if 64 * norm < median {
            // The median is positive here, and norms never are negative.
            let ratio_ppm = (norm * 1_000_000 / median).unsigned_abs();
            *refused = Some(Reason::NoWork { ratio_ppm });
        }
    }
}

fn drop_copies(gram: &Gram, refused: &mut Refused) {
    let kept = refused.kept();
    let centred = Centred::new(gram, &kept);
    let d: Vec<i128> = kept.iter().map(|i| centred.norm_squared(*i)).collect();
    let Some(median) = lower_median(&d, i128::cmp) else {
        return;
    };
    let close = |i: usize, j: usize| {
        let distance = gram.distance_squared(i, j);
        3 * centred.scale * centred.scale * i128::from(distance) < median
            && 2 * distance < gram.norm_squared(i) + gram.norm_squared(j)
    };
    for (position, later) in kept.iter().enumerate() {
        if let Some(of) = kept[..position].iter().find(|i| close(**i, *later)) {
            refused.0[*later] = Some(Reason::Copy { of: *of });
        }
    }
}

fn drop_colluding(gram: &Gram, refused: &mut Refused) {
    let kept = refused.kept();
    let centred = Centred::new(gram, &kept);
    let energies: Vec<Energy> = kept.iter().map(|i| centred.energy(*i, &kept)).collect();
    let Some(median) = lower_median(&energies, Energy::cmp) else {
        return;
    };
    for (i, energy) in kept.iter().zip(&energies) {
        if energy.q * median.d > 2 * median.q * energy.d {
            let energy_percent = energy.percent_of(&median);
            refused.0[*i] = Some(Reason::Colluding { energy_percent });
        }
    }
}

/// Inner products of the kept around their mean, times m².
struct Centred<'a> {
    gram: &'a Gram,
    /// m, the number of the kept.
    scale: i128,
    /// ⟨sᵢ, Σ s⟩, by index; of those not kept too.
    rows: Vec<i128>,
    /// |Σ s|²
    total: i128,
}

impl<'a> Centred<'a> {
    fn new(gram: &'a Gram, kept: &[usize]) -> Self {
        let rows: Vec<i128> = (0..gram.count())
            .map(|i| i128::from(gram.row_sum(i, kept)))
            .collect();
        Self {
            gram,
            scale: kept.len() as i128,
            total: kept.iter().map(|i| rows[*i]).sum(),
            rows,
        }
    }

    /// m² ⟨cᵢ, cⱼ⟩
    fn dot(&self, i: usize, j: usize) -> i128 {
        let m = self.scale;
        m * m * i128::from(self.gram.at(i, j)) - m * (self.rows[i] + self.rows[j]) + self.total
    }

    /// m² dᵢ
    fn norm_squared(&self, i: usize) -> i128 {
        self.dot(i, i)
    }

    /// qᵢ / dᵢ, up to m².
    fn energy(&self, i: usize, kept: &[usize]) -> Energy {
        let others = kept.iter().filter(|j| **j != i);
        let q = others.map(|j| self.dot(i, *j).pow(2)).sum();
        match self.norm_squared(i) {
            // It is the mean: it agrees with nobody in particular, and q is 0.
            0 => Energy { q: 0, d: 1 },
            d => Energy { q, d },
        }
    }
}

/// The fraction q / d; d is positive.
#[derive(Debug, Clone, Copy)]
struct Energy {
    q: i128,
    d: i128,
}

impl Energy {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.q * other.d).cmp(&(other.q * self.d))
    }

    /// For the text of a refusal; decides nothing.
    fn percent_of(&self, median: &Self) -> u64 {
        let (above, below) = (self.q * median.d, median.q * self.d);
        // Percent of the denominator: rounding it down to 0 means next to no agreement.
        let percent = above / (below / 100).max(1);
        u64::try_from(percent).map_or(ENERGY_PERCENT_MAX, |p| p.min(ENERGY_PERCENT_MAX))
    }
}

/// The middle one, the lower of two; `None` of nothing.
pub(super) fn lower_median<T: Copy>(
    values: &[T],
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(order);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// Passes of the energy test.
const ENERGY_PASSES: usize = 3;

/// A larger share than this is not told apart in texts.
const ENERGY_PERCENT_MAX: u64 = 1_000_000;
