//! The rule once more, as slowly and literally as it is written down, with sorted lists and
//! without anything of the crate: what [`crate::plain`] is compared with.

use crate::plain::Sketch;

type Vector = Vec<i64>;

/// Kept slots, scores, and payouts if anybody has weight.
pub(super) struct Outcome {
    pub(super) alive: Vec<bool>,
    /// The earliest that an alive one is close to.
    pub(super) copy_of: Vec<Option<usize>>,
    pub(super) kept: Vec<bool>,
    pub(super) scores: Vec<u64>,
    pub(super) payouts: Option<Vec<u128>>,
}

pub(super) fn settle(sketches: &[Option<Sketch>], factors: &[u16], pool: u128) -> Outcome {
    let vector = |sketch: &Option<Sketch>| -> Vector {
        let values = sketch.iter().flatten();
        values.map(|v| i64::from(*v)).collect()
    };
    let vectors: Vec<Vector> = sketches.iter().map(vector).collect();
    let of = |i: usize| &vectors[i];
    let present: Vec<usize> = (0..sketches.len())
        .filter(|i| sketches[*i].is_some())
        .collect();
    let alive = alive(&present, &of);
    let mut copy_of = vec![None; sketches.len()];
    for (i, j) in copies(&alive, &of) {
        copy_of[j] = Some(i);
    }
    let mut kept: Vec<usize> = alive.clone();
    kept.retain(|j| copy_of[*j].is_none());
    if present.len() >= 32 {
        for _ in 0..3 {
            kept = without_colluders(&kept, &of);
        }
    }
    let total = sum(&kept, &of);
    let score = |i: usize| match kept.contains(&i) {
        true => u64::try_from(dot(of(i), &total).max(0)).unwrap(),
        false => 0,
    };
    let scores: Vec<u64> = (0..sketches.len()).map(score).collect();
    Outcome {
        alive: (0..sketches.len()).map(|i| alive.contains(&i)).collect(),
        copy_of,
        kept: (0..sketches.len()).map(|i| kept.contains(&i)).collect(),
        payouts: payouts(&scores, factors, pool),
        scores,
    }
}

fn alive<'a>(present: &[usize], of: &impl Fn(usize) -> &'a Vector) -> Vec<usize> {
    let mut norms: Vec<i128> = present.iter().map(|i| dot(of(*i), of(*i))).collect();
    norms.sort_unstable();
    let Some(median) = norms.get(norms.len().saturating_sub(1) / 2) else {
        return Vec::new();
    };
    let alive = |i: &usize| 64 * dot(of(*i), of(*i)) >= *median;
    present.iter().copied().filter(alive).collect()
}

/// Copies, each after the earliest that it is close to.
fn copies<'a>(alive: &[usize], of: &impl Fn(usize) -> &'a Vector) -> Vec<(usize, usize)> {
    let m = alive.len() as i128;
    let centred: Vec<Vector> = alive.iter().map(|i| centred(*i, alive, of)).collect();
    // m² d
    let mut spread: Vec<i128> = centred.iter().map(|c| dot(c, c)).collect();
    spread.sort_unstable();
    let Some(median) = spread.get(spread.len().saturating_sub(1) / 2) else {
        return Vec::new();
    };
    let close = |i: usize, j: usize| {
        let difference: Vector = of(i).iter().zip(of(j)).map(|(a, b)| a - b).collect();
        let distance = dot(&difference, &difference);
        let norms = dot(of(i), of(i)) + dot(of(j), of(j));
        3 * m * m * distance < *median && 2 * distance < norms
    };
    let original = |j: &usize| alive.iter().find(|i| **i < *j && close(**i, *j));
    let pair = |j: &usize| original(j).map(|i| (*i, *j));
    alive.iter().filter_map(pair).collect()
}

fn without_colluders<'a>(kept: &[usize], of: &impl Fn(usize) -> &'a Vector) -> Vec<usize> {
    let centred: Vec<Vector> = kept.iter().map(|i| centred(*i, kept, of)).collect();
    let energy = |i: usize| {
        let others = (0..kept.len()).filter(|j| *j != i);
        let q: i128 = others.map(|j| dot(&centred[i], &centred[j]).pow(2)).sum();
        match dot(&centred[i], &centred[i]) {
            0 => (0, 1),
            d => (q, d),
        }
    };
    let energies: Vec<(i128, i128)> = (0..kept.len()).map(energy).collect();
    let mut sorted = energies.clone();
    sorted.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
    let Some((q, d)) = sorted.get(sorted.len().saturating_sub(1) / 2) else {
        return Vec::new();
    };
    let stays = |(_, energy): &(&usize, &(i128, i128))| energy.0 * d <= 2 * q * energy.1;
    let both = kept.iter().zip(&energies);
    both.filter(stays).map(|(i, _)| *i).collect()
}

/// m (s − mean)
fn centred<'a>(i: usize, members: &[usize], of: &impl Fn(usize) -> &'a Vector) -> Vector {
    let total = sum(members, of);
    let m = members.len() as i64;
    of(i).iter().zip(total).map(|(s, t)| m * s - t).collect()
}

fn sum<'a>(members: &[usize], of: &impl Fn(usize) -> &'a Vector) -> Vector {
    let mut total = vec![0; 128];
    for i in members {
        for (total, value) in total.iter_mut().zip(of(*i)) {
            *total += value;
        }
    }
    total
}

fn dot(a: &Vector, b: &Vector) -> i128 {
    // Components are below 2^16, so that 64 bits hold the sum.
    i128::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>())
}

fn payouts(scores: &[u64], factors: &[u16], pool: u128) -> Option<Vec<u128>> {
    let pairs = scores.iter().zip(factors);
    let weights: Vec<u128> = pairs
        .map(|(s, f)| u128::from(*s) * u128::from(*f))
        .collect();
    let total: u128 = weights.iter().sum();
    (total > 0).then(|| {
        weights
            .iter()
            .map(|w| long_division(pool, *w, total))
            .collect()
    })
}

/// ⌊a b / c⌋ with b ≤ c, bit by bit of a.
fn long_division(a: u128, b: u128, c: u128) -> u128 {
    let (mut quotient, mut rest) = (0, 0);
    for bit in (0..128).rev() {
        rest = 2 * rest + b * (a >> bit & 1);
        quotient = 2 * quotient + rest / c;
        rest %= c;
    }
    quotient
}
