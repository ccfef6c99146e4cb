//! The rule, with all that a prover needs of it.

use super::{ENERGY_FROM, ENERGY_PASSES, ENERGY_PERCENT_MAX, Reason, Sketch};

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

    /// Why an update that is not kept is not.
    pub(crate) fn reason(&self, slot: usize) -> Reason {
        if !self.alive[slot] {
            let median = self.gram[self.norms.at][self.norms.at];
            // The median is positive here, and norms never are negative.
            let ratio_ppm = (self.gram[slot][slot] * 1_000_000 / median.max(1)).unsigned_abs();
            return Reason::NoWork { ratio_ppm };
        }
        if let Some(of) = self.partner[slot] {
            return Reason::Copy { of };
        }
        let pass = self.passes.iter().find(|pass| pass.above[slot]);
        let energy_percent = pass.map_or(0, |pass| pass.percent(slot));
        Reason::Colluding { energy_percent }
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

    /// Of the median energy. For the text of a refusal; decides nothing.
    fn percent(&self, slot: usize) -> u64 {
        let ((q, d), (q_median, d_median)) = (self.energy[slot], self.energy[self.median.at]);
        let (above, below) = (q * d_median, q_median * d);
        // Percent of the denominator: rounding it down to 0 means next to no agreement.
        let percent = above / (below / 100).max(1);
        u64::try_from(percent).map_or(ENERGY_PERCENT_MAX, |p| p.min(ENERGY_PERCENT_MAX))
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
