//! Every rule once more, in f64 on whole vectors, as its paper has it: without inner products, shares
//! or chunks. Slow, and written to be compared with the papers.
#![allow(clippy::unwrap_used)]

type Vectors = Vec<Vec<f64>>;

/// What a twin goes by.
pub(super) struct Round {
    /// One a trainer.
    pub(super) rows: Vectors,
    pub(super) weights: Vec<f64>,
    /// f.
    pub(super) attackers: usize,
    /// In median norms.
    pub(super) clip_factor: f64,
    /// The root trainer's place.
    pub(super) root: Option<usize>,
    /// For each of two halves, whether a value is in it.
    pub(super) halves: [Vec<bool>; 2],
}

/// The rule's result.
pub(super) fn twin(name: &str, round: &Round) -> Vec<f64> {
    let rows = &round.rows;
    let (count, f) = (rows.len(), round.attackers);
    let limit = round.clip_factor * lower_median(rows.iter().map(|row| norm(row)));
    let all: Vec<usize> = (0..count).collect();
    match name {
        "fedavg" => weighted_mean(rows, &round.weights),
        "coordinate_median" => by_value(rows, |column| {
            (column[(count - 1) / 2] + column[count / 2]) / 2.0
        }),
        "trimmed_mean" => by_value(rows, |column| average(&column[f..count - f])),
        "krum" => rows[best_by_krum(rows, &all, f.min(count.saturating_sub(3) / 2))].clone(),
        "multi_krum" => {
            let scores = krum_scores(rows, &all, f.min(count.saturating_sub(3) / 2));
            let mut ranked = all;
            ranked.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            mean(rows, &ranked[..count - f])
        }
        "bulyan" => bulyan(rows, f.min(count.saturating_sub(3) / 4)),
        "geometric_median" => geometric_median(rows),
        "centered_clipping" => centered_clipping(rows, limit),
        "norm_clipping" => weighted_mean(&clipped(rows, limit), &round.weights),
        "foolsgold" => foolsgold(rows),
        "dnc" => dnc(round),
        "signguard" => mean(&clipped(rows, limit), &signguard(rows)),
        "clipped_clustering" => mean(&clipped(rows, limit), &larger_of_two(rows)),
        "flame" => mean(&clipped(rows, limit), &majority(rows)),
        "fltrust" => fltrust(round),
        other => panic!("{other} has no twin"),
    }
}

pub(super) fn norm(row: &[f64]) -> f64 {
    dot(row, row).sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    match norm(a) * norm(b) {
        0.0 => 0.0,
        lengths => dot(a, b) / lengths,
    }
}

fn lower_median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(super) fn weighted_mean(rows: &Vectors, weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let value = |j: usize| {
        rows.iter()
            .zip(weights)
            .map(|(row, w)| w * row[j])
            .sum::<f64>()
            / total
    };
    (0..rows[0].len()).map(value).collect()
}

fn mean(rows: &Vectors, of: &[usize]) -> Vec<f64> {
    let weight = |i: usize| f64::from(u8::from(of.contains(&i)));
    weighted_mean(rows, &(0..rows.len()).map(weight).collect::<Vec<_>>())
}

fn by_value(rows: &Vectors, reduce: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let value = |j: usize| {
        let mut column: Vec<f64> = rows.iter().map(|row| row[j]).collect();
        column.sort_by(f64::total_cmp);
        reduce(&column)
    };
    (0..rows[0].len()).map(value).collect()
}

fn clipped(rows: &Vectors, limit: f64) -> Vectors {
    let clip = |row: &Vec<f64>| {
        let factor = if norm(row) > limit {
            limit / norm(row)
        } else {
            1.0
        };
        row.iter().map(|value| factor * value).collect()
    };
    rows.iter().map(clip).collect()
}

fn krum_scores(rows: &Vectors, members: &[usize], f: usize) -> Vec<f64> {
    let score = |i: &usize| {
        let others = members.iter().filter(|j| *j != i);
        let mut squares: Vec<f64> = others
            .map(|j| distance(&rows[*i], &rows[*j]).powi(2))
            .collect();
        squares.sort_by(f64::total_cmp);
        let neighbours = members.len().saturating_sub(f + 2).max(1);
        squares.iter().take(neighbours).sum()
    };
    members.iter().map(score).collect()
}

fn best_by_krum(rows: &Vectors, members: &[usize], f: usize) -> usize {
    let scores = krum_scores(rows, members, f);
    let best = (0..members.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    members[best.unwrap()]
}

fn bulyan(rows: &Vectors, f: usize) -> Vec<f64> {
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < rows.len() - 2 * f {
        let best = best_by_krum(rows, &left, f);
        left.retain(|index| *index != best);
        chosen.push(rows[best].clone());
    }
    let keep = chosen.len() - 2 * f;
    by_value(&chosen, |column| {
        let count = column.len();
        let median = (column[(count - 1) / 2] + column[count / 2]) / 2.0;
        let mut near = column.to_vec();
        near.sort_by(|a, b| (a - median).abs().total_cmp(&(b - median).abs()));
        average(&near[..keep])
    })
}

/// By Weiszfeld's algorithm, without smoothing, to the end.
fn geometric_median(rows: &Vectors) -> Vec<f64> {
    let mut at = vec![0.0; rows[0].len()];
    for _ in 0..3_000 {
        let weight = |row: &Vec<f64>| distance(row, &at).max(1e-12).recip();
        let weights: Vec<f64> = rows.iter().map(weight).collect();
        at = weighted_mean(rows, &weights);
    }
    at
}

fn centered_clipping(rows: &Vectors, radius: f64) -> Vec<f64> {
    let mut center = vec![0.0; rows[0].len()];
    for _ in 0..100 {
        let away: Vectors = rows
            .iter()
            .map(|row| row.iter().zip(&center).map(|(x, v)| x - v).collect())
            .collect();
        let all: Vec<usize> = (0..rows.len()).collect();
        let pull = mean(&clipped(&away, radius), &all);
        center.iter_mut().zip(pull).for_each(|(v, pull)| *v += pull);
    }
    center
}

/// In a first round, where histories are the updates themselves.
fn foolsgold(rows: &Vectors) -> Vec<f64> {
    let count = rows.len();
    let others = |i: usize| (0..count).filter(move |j| *j != i);
    let mut likeness = vec![vec![0.0; count]; count];
    let mut likest = vec![0.0f64; count];
    for i in 0..count {
        for j in others(i) {
            likeness[i][j] = cosine(&rows[i], &rows[j]);
            likest[i] = likest[i].max(likeness[i][j]);
        }
    }
    let mut weights = vec![0.0f64; count];
    for i in 0..count {
        let mut worst = 0.0f64;
        for j in others(i) {
            let pardon = if likest[j] > likest[i] {
                likest[i] / likest[j]
            } else {
                1.0
            };
            worst = worst.max(likeness[i][j] * pardon);
        }
        weights[i] = 1.0 - worst;
    }
    let most = weights.iter().copied().fold(0.0, f64::max);
    if most <= 1e-6 {
        return weighted_mean(rows, &vec![1.0; count]);
    }
    for weight in &mut weights {
        let alpha = *weight / most;
        *weight = ((alpha / (1.0 - alpha)).ln() + 0.5).clamp(0.0, 1.0);
    }
    weighted_mean(rows, &weights)
}

/// The first right singular vector by power iteration on vectors as long as the model.
fn dnc(round: &Round) -> Vec<f64> {
    let count = round.rows.len();
    let mut good: Vec<usize> = (0..count).collect();
    for half in &round.halves {
        let part = |row: &Vec<f64>| -> Vec<f64> {
            let pairs = row.iter().zip(half).filter(|(_, within)| **within);
            pairs.map(|(value, _)| *value).collect()
        };
        let rows: Vectors = round.rows.iter().map(part).collect();
        let center = weighted_mean(&rows, &vec![1.0; count]);
        let centered: Vectors = rows
            .iter()
            .map(|row| row.iter().zip(&center).map(|(x, m)| x - m).collect())
            .collect();
        let longest = centered
            .iter()
            .max_by(|a, b| norm(a).total_cmp(&norm(b)))
            .unwrap();
        let mut direction = longest.clone();
        for _ in 0..10_000 {
            let before = direction.clone();
            let weights: Vec<f64> = centered.iter().map(|row| dot(row, &direction)).collect();
            direction.iter_mut().for_each(|value| *value = 0.0);
            for (row, weight) in centered.iter().zip(&weights) {
                direction
                    .iter_mut()
                    .zip(row)
                    .for_each(|(d, x)| *d += weight * x);
            }
            let length = norm(&direction).max(f64::MIN_POSITIVE);
            direction.iter_mut().for_each(|value| *value /= length);
            if distance(&before, &direction) < 1e-13 {
                break;
            }
        }
        let score = |i: &usize| dot(&centered[*i], &direction).powi(2);
        let mut ranked: Vec<usize> = (0..count).collect();
        ranked.sort_by(|a, b| score(b).total_cmp(&score(a)));
        let out = &ranked[..round.attackers];
        good.retain(|index| !out.contains(index) || score(index) == 0.0);
    }
    mean(&round.rows, &good)
}

fn signguard(rows: &Vectors) -> Vec<usize> {
    let median = lower_median(rows.iter().map(|row| norm(row)));
    let point = |row: &Vec<f64>| -> Vec<f64> {
        let share = |is: fn(f64) -> bool| row.iter().filter(|v| is(**v)).count() as f64;
        let counts = [share(|v| v > 0.0), share(|v| v == 0.0), share(|v| v < 0.0)];
        counts.map(|count| count / row.len() as f64).to_vec()
    };
    let points: Vectors = rows.iter().map(point).collect();
    let reach = |from: &Vec<f64>| {
        let mut distances: Vec<f64> = points.iter().map(|to| distance(from, to)).collect();
        distances.sort_by(f64::total_cmp);
        distances[(rows.len() / 2).min(rows.len() - 1)]
    };
    let bandwidth = (1.0 + 1e-9) * average(&points.iter().map(reach).collect::<Vec<_>>());
    let top = |from: &Vec<f64>| {
        let mut at = from.clone();
        for _ in 0..300 {
            let near = points.iter().filter(|to| distance(&at, to) <= bandwidth);
            let near: Vectors = near.cloned().collect();
            if near.is_empty() {
                break;
            }
            let next = weighted_mean(&near, &vec![1.0; near.len()]);
            let moved = distance(&at, &next);
            at = next;
            if moved <= 1e-3 * bandwidth {
                break;
            }
        }
        at
    };
    let tops: Vectors = points.iter().map(top).collect();
    let cluster = |of: &Vec<f64>| -> Vec<usize> {
        (0..rows.len())
            .filter(|i| distance(of, &tops[*i]) <= bandwidth)
            .collect()
    };
    // Of those of one size that of the first trainers.
    let largest = tops
        .iter()
        .map(cluster)
        .max_by(|a, b| a.len().cmp(&b.len()).then_with(|| b.cmp(a)))
        .unwrap();
    let usual = |i: &usize| (0.1 * median..=3.0 * median).contains(&norm(&rows[*i]));
    let both: Vec<usize> = largest.iter().copied().filter(usual).collect();
    if both.is_empty() { largest } else { both }
}

/// Average linkage, every distance between groups taken anew.
fn larger_of_two(rows: &Vectors) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = (0..rows.len()).map(|i| vec![i]).collect();
    let apart = |a: &[usize], b: &[usize]| {
        let pairs = a.iter().flat_map(|i| b.iter().map(move |j| (i, j)));
        let distances: Vec<f64> = pairs
            .map(|(i, j)| 1.0 - cosine(&rows[*i], &rows[*j]))
            .collect();
        average(&distances)
    };
    while groups.len() > 2 {
        let mut best = (f64::INFINITY, 0, 0);
        for a in 0..groups.len() {
            for b in 0..a {
                let distance = apart(&groups[a], &groups[b]);
                if distance < best.0 {
                    best = (distance, a, b);
                }
            }
        }
        let moved = groups.remove(best.1);
        groups[best.2].extend(moved);
    }
    // Of two of one size that of the first trainer.
    groups.sort_by_key(|group| *group.iter().min().unwrap());
    groups.into_iter().rev().max_by_key(Vec::len).unwrap()
}

/// The threshold at which a component of the graph of near pairs first has a majority.
fn majority(rows: &Vectors) -> Vec<usize> {
    let count = rows.len();
    let apart = |i: usize, j: usize| 1.0 - cosine(&rows[i], &rows[j]);
    let mut thresholds: Vec<f64> = vec![-1.0];
    thresholds.extend(
        (0..count)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| apart(i, j)),
    );
    thresholds.sort_by(f64::total_cmp);
    for threshold in thresholds {
        for start in 0..count {
            let mut component = vec![start];
            let mut next = 0;
            while next < component.len() {
                let at = component[next];
                for to in 0..count {
                    if !component.contains(&to) && apart(at.max(to), at.min(to)) <= threshold {
                        component.push(to);
                    }
                }
                next += 1;
            }
            if component.len() > count / 2 {
                return component;
            }
        }
    }
    (0..count).collect()
}

fn fltrust(round: &Round) -> Vec<f64> {
    let rows = &round.rows;
    let root = match round.root {
        Some(index) => rows[index].clone(),
        None => geometric_median(rows),
    };
    let trust = |i: usize| match round.root == Some(i) {
        true => 0.0,
        false => cosine(&rows[i], &root).max(0.0),
    };
    let trust: Vec<f64> = (0..rows.len()).map(trust).collect();
    if trust.iter().sum::<f64>() == 0.0 {
        return root;
    }
    let rescaled: Vectors = rows
        .iter()
        .map(|row| {
            let factor = if norm(row) > 0.0 {
                norm(&root) / norm(row)
            } else {
                0.0
            };
            row.iter().map(|value| factor * value).collect()
        })
        .collect();
    weighted_mean(&rescaled, &trust)
}
