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
//! [`CENTRED_BITS`] and the constants after it.

use crate::error::ProofError;

/// Length of a sketch, k.
pub const SKETCH_LEN: usize = 128;

/// The energy passes run in rounds of at least so many updates.
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
    /// Its norm is next to nothing.
    NoWork,
    /// Close to an earlier one.
    Copy {
        /// The earliest of those.
        of: usize,
    },
    /// Agrees with the others more than twice as much as the median.
    Colluding,
    /// It counts.
    Kept,
}

/// The outcome of a round, by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Who is kept, and why the others are not.
    pub verdicts: Vec<Verdict>,
    /// max(0, ⟨sᵢ, Σ kept s⟩); 0 for those not kept.
    pub scores: Vec<u64>,
}

/// Applies the rule to sketches in the order of their commitments; `None` is an empty slot.
#[must_use]
pub fn judge(sketches: &[Option<Sketch>]) -> Judgement {
    let trace = Trace::of(sketches);
    let verdict = |i: usize| match () {
        () if sketches[i].is_none() => Verdict::Absent,
        () if !trace.alive[i] => Verdict::NoWork,
        () if trace.kept[i] => Verdict::Kept,
        () => match trace.partner[i] {
            Some(of) => Verdict::Copy { of },
            None => Verdict::Colluding,
        },
    };
    Judgement {
        verdicts: (0..sketches.len()).map(verdict).collect(),
        scores: trace.scores(),
    }
}

/// The split of a pool, by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// ⌊pool × wᵢ / W⌋
    pub payouts: Vec<u128>,
    /// What the divisions leave, 0 ≤ remainderᵢ < W.
    pub remainders: Vec<u64>,
    /// W = Σ scoreᵢ × factorᵢ
    pub weight: u64,
}

impl Split {
    /// Splits `pool` by score × factor, rounding down.
    ///
    /// # Errors
    /// [`ProofError::NothingToPay`] if nobody has weight.
    pub fn down(pool: u128, scores: &[u64], factors: &[u16]) -> Result<Self, ProofError> {
        let pairs = scores.iter().zip(factors);
        let weights: Vec<u64> = pairs.map(|(s, f)| s * u64::from(*f)).collect();
        let weight: u64 = weights.iter().sum();
        if weight == 0 {
            return Err(ProofError::NothingToPay);
        }
        let (payouts, remainders) = weights
            .iter()
            .map(|part| mul_div_rem(pool, *part, weight))
            .unzip();
        Ok(Self {
            payouts,
            remainders,
            weight,
        })
    }

    /// What rounding leaves of the pool; less than the number of trainers.
    #[must_use]
    pub fn dust(&self, pool: u128) -> u128 {
        pool - self.payouts.iter().sum::<u128>()
    }
}

/// Quotient and remainder of a × b / c with b ≤ c, so that the quotient fits.
fn mul_div_rem(a: u128, b: u64, c: u64) -> (u128, u64) {
    let (b, c) = (u128::from(b), u128::from(c));
    // a = h c + l: a b / c = h b + l b / c, and l b < c² fits.
    let (high, low) = (a / c, a % c);
    let rest = low * b;
    (high * b + rest / c, (rest % c) as u64)
}

/// Every intermediate value of the rule, which is what a prover needs.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// All inner products, by row; 0 where a slot is empty.
    pub(crate) gram: Vec<Vec<i64>>,
    pub(crate) norms: Median,
    pub(crate) alive: Vec<bool>,
    /// ⟨sᵢ, Σ alive s⟩, of every slot.
    pub(crate) rows: Vec<i64>,
    /// m² dᵢ around the mean of the alive, of every slot.
    pub(crate) centred: Vec<i128>,
    pub(crate) spread: Median,
    /// ⌈D / 3⌉: Pᵢⱼ is below it if and only if 3 Pᵢⱼ < D.
    pub(crate) near: i64,
    /// The earliest alive slot that an alive slot is close to.
    pub(crate) partner: Vec<Option<usize>>,
    pub(crate) passes: Vec<Pass>,
    pub(crate) kept: Vec<bool>,
    /// ⟨sᵢ, Σ kept s⟩, of every slot.
    pub(crate) kept_rows: Vec<i64>,
}

/// A lower median among members.
#[derive(Debug, Clone)]
pub(crate) struct Median {
    /// A slot that attains it.
    pub(crate) at: usize,
    /// The lower half of the members, up to and with the median.
    pub(crate) low: Vec<bool>,
}

/// One pass of the energy rule.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// m⁴ qᵢ and m² dᵢ, 0 and 1 for those that are the mean or no members.
    pub(crate) energy: Vec<(i128, i128)>,
    pub(crate) median: Median,
    /// Members above twice the median.
    pub(crate) above: Vec<bool>,
}

impl Trace {
    pub(crate) fn of(sketches: &[Option<Sketch>]) -> Self {
        let count = sketches.len();
        let active: Vec<bool> = sketches.iter().map(Option::is_some).collect();
        let gram = gram(sketches);
        let norms = lower_median(&active, |i, j| gram[i][i].cmp(&gram[j][j]));
        let median = gram.get(norms.at).map_or(0, |row| row[norms.at]);
        let alive: Vec<bool> = (0..count)
            .map(|i| active[i] && 64 * gram[i][i] >= median)
            .collect();

        let centre = Centre::new(&gram, &alive);
        let centred: Vec<i128> = (0..count).map(|i| centre.dot(&gram, i, i)).collect();
        let spread = lower_median(&alive, |i, j| centred[i].cmp(&centred[j]));
        let (d, m) = (centred.get(spread.at).copied().unwrap_or(0), centre.m);
        // Rounded up; m is 0 only if there is no update at all.
        let near = (d + 3 * m * m - 1).checked_div(3 * m * m).unwrap_or(0) as i64;
        let distance = |i: usize, j: usize| gram[i][i] + gram[j][j] - 2 * gram[i][j];
        let close = |i: usize, j: usize| {
            let distance = distance(i, j);
            distance < near && 2 * distance < gram[i][i] + gram[j][j]
        };
        let partner: Vec<Option<usize>> = (0..count)
            .map(|j| (0..j).find(|i| alive[*i] && alive[j] && close(*i, j)))
            .collect();
        let mut kept: Vec<bool> = (0..count)
            .map(|i| alive[i] && partner[i].is_none())
            .collect();

        let mut passes = Vec::new();
        if count >= ENERGY_FROM {
            let applies = active.iter().filter(|a| **a).count() >= ENERGY_FROM;
            for _ in 0..ENERGY_PASSES {
                let pass = Pass::over(&gram, &kept);
                for (kept, above) in kept.iter_mut().zip(&pass.above) {
                    *kept &= !(applies && *above);
                }
                passes.push(pass);
            }
        }
        let rows = centre.rows.iter().map(|r| *r as i64).collect();
        let kept_rows = row_sums(&gram, &kept);
        Self {
            gram,
            norms,
            alive,
            rows,
            centred,
            spread,
            near,
            partner,
            passes,
            kept,
            kept_rows,
        }
    }

    pub(crate) fn scores(&self) -> Vec<u64> {
        let rows = self.kept_rows.iter().zip(&self.kept);
        rows.map(|(row, kept)| if *kept { *row.max(&0) as u64 } else { 0 })
            .collect()
    }
}

impl Pass {
    fn over(gram: &[Vec<i64>], kept: &[bool]) -> Self {
        let count = kept.len();
        let centre = Centre::new(gram, kept);
        let energy: Vec<(i128, i128)> = (0..count)
            .map(|i| {
                if kept[i] {
                    centre.energy(gram, i)
                } else {
                    (0, 1)
                }
            })
            .collect();
        let median = lower_median(kept, |i, j| {
            (energy[i].0 * energy[j].1).cmp(&(energy[j].0 * energy[i].1))
        });
        let (q, d) = energy.get(median.at).copied().unwrap_or((0, 1));
        let above = (0..count)
            .map(|i| kept[i] && energy[i].0 * d > 2 * q * energy[i].1)
            .collect();
        Self {
            energy,
            median,
            above,
        }
    }
}

/// Inner products around the mean of m members, times m².
struct Centre<'a> {
    members: &'a [bool],
    m: i128,
    /// ⟨sᵢ, S⟩ with S the sum of the members.
    rows: Vec<i128>,
    /// |S|²
    total: i128,
}

impl<'a> Centre<'a> {
    fn new(gram: &[Vec<i64>], members: &'a [bool]) -> Self {
        let rows: Vec<i128> = row_sums(gram, members)
            .into_iter()
            .map(i128::from)
            .collect();
        let total = rows.iter().zip(members).filter(|(_, m)| **m);
        Self {
            m: members.iter().filter(|m| **m).count() as i128,
            total: total.map(|(row, _)| row).sum(),
            members,
            rows,
        }
    }

    fn dot(&self, gram: &[Vec<i64>], i: usize, j: usize) -> i128 {
        let m = self.m;
        m * m * i128::from(gram[i][j]) - m * (self.rows[i] + self.rows[j]) + self.total
    }

    fn energy(&self, gram: &[Vec<i64>], i: usize) -> (i128, i128) {
        let others = (0..self.members.len()).filter(|j| *j != i && self.members[*j]);
        let q = others.map(|j| self.dot(gram, i, j).pow(2)).sum();
        match self.dot(gram, i, i) {
            // It is the mean: it agrees with nobody in particular, and q is 0.
            0 => (q, 1),
            d => (q, d),
        }
    }
}

fn gram(sketches: &[Option<Sketch>]) -> Vec<Vec<i64>> {
    let dot = |a: &Sketch, b: &Sketch| -> i64 {
        let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
        i64::from(products.sum::<i32>())
    };
    let row = |a: &Option<Sketch>| {
        let entry = |b: &Option<Sketch>| match (a, b) {
            (Some(a), Some(b)) => dot(a, b),
            _ => 0,
        };
        sketches.iter().map(entry).collect()
    };
    sketches.iter().map(row).collect()
}

fn row_sums(gram: &[Vec<i64>], members: &[bool]) -> Vec<i64> {
    let sum = |row: &Vec<i64>| {
        let entries = row.iter().zip(members).filter(|(_, member)| **member);
        entries.map(|(entry, _)| entry).sum()
    };
    gram.iter().map(sum).collect()
}

/// The lower of the two middle ones; slot 0 if there are no members.
fn lower_median(members: &[bool], order: impl Fn(usize, usize) -> std::cmp::Ordering) -> Median {
    let mut sorted: Vec<usize> = (0..members.len()).filter(|i| members[*i]).collect();
    sorted.sort_by(|i, j| order(*i, *j));
    sorted.truncate(sorted.len().div_ceil(2));
    let mut low = vec![false; members.len()];
    for i in &sorted {
        low[*i] = true;
    }
    Median {
        at: sorted.last().copied().unwrap_or(0),
        low,
    }
}
