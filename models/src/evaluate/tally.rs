//! Sums over the predictions of a data set, batch by batch in order: the same batches give the same
//! bytes.

use super::{Evaluation, RANKS_COUNTED};

/// What was seen of a data set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Sum of the losses, in nats.
    loss: f64,
    /// Predictions that were right.
    correct: u64,
    /// Predictions in all.
    units: u64,
    /// Images, texts, sequences or users.
    examples: usize,
    /// What there is for one kind of data only; set by the first batch.
    detail: Option<Detail>,
}

#[derive(Debug, Clone)]
enum Detail {
    Classes(Vec<Class>),
    Text { bytes: u64 },
    Ranks { hits: u64, gain: f64 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    right: u64,
    predicted: u64,
    present: u64,
}

impl Tally {
    /// Adds a classifier's logits, `[batch, classes]`, and what was right.
    pub(crate) fn classes(&mut self, logits: &[f32], classes: usize, labels: &[u32]) {
        let none = || Detail::Classes(vec![Class::default(); classes]);
        let Detail::Classes(counts) = self.detail.get_or_insert_with(none) else {
            unreachable!("a data set is of one kind");
        };
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let label = label as usize;
            self.loss += cross_entropy(row, label);
            counts[label].present += 1;
            if let Some(class) = largest(row) {
                counts[class].predicted += 1;
                counts[class].right += u64::from(class == label);
                self.correct += u64::from(class == label);
            }
        }
        self.units += labels.len() as u64;
        self.examples += labels.len();
    }

    /// Adds rows of a language model: the sum of the losses of the tokens that count, how many
    /// those are, how many of them had the largest logit, and the bytes of text that they cover.
    pub(crate) fn text(&mut self, rows: usize, loss: f64, units: u64, correct: u64, bytes: u64) {
        let none = || Detail::Text { bytes: 0 };
        let Detail::Text { bytes: all } = self.detail.get_or_insert_with(none) else {
            unreachable!("a data set is of one kind");
        };
        *all += bytes;
        self.loss += if loss.is_finite() {
            loss
        } else {
            f64::INFINITY
        };
        self.units += units;
        self.correct += correct;
        self.examples += rows;
    }

    /// Adds a user: the scores of the items that are ranked, of which `target` was left out.
    pub(crate) fn ranking(&mut self, scores: &[f32], target: usize) {
        let none = || Detail::Ranks { hits: 0, gain: 0.0 };
        let Detail::Ranks { hits, gain } = self.detail.get_or_insert_with(none) else {
            unreachable!("a data set is of one kind");
        };
        let rank = rank(scores, target);
        if rank <= RANKS_COUNTED {
            *hits += 1;
            *gain += 1.0 / (1.0 + rank as f64).log2();
        }
        self.correct += u64::from(rank == 1);
        self.loss += cross_entropy(scores, target);
        self.units += 1;
        self.examples += 1;
    }

    /// The metrics. The loss of nothing is infinite.
    pub(crate) fn evaluation(&self) -> Evaluation {
        let units = self.units.max(1) as f64;
        let loss = if self.units == 0 {
            f64::INFINITY
        } else {
            self.loss / units
        };
        let plain = Evaluation {
            loss,
            accuracy: self.correct as f64 / units,
            num_examples: self.examples,
            macro_f1: None,
            bits_per_byte: None,
            perplexity: None,
            ndcg_at_10: None,
            hit_rate_at_10: None,
        };
        match &self.detail {
            None => plain,
            Some(Detail::Classes(classes)) => Evaluation {
                macro_f1: Some(macro_f1(classes)),
                ..plain
            },
            Some(Detail::Text { bytes }) => Evaluation {
                bits_per_byte: (*bytes > 0)
                    .then(|| self.loss / std::f64::consts::LN_2 / *bytes as f64),
                perplexity: Some(loss.exp()),
                ..plain
            },
            Some(Detail::Ranks { hits, gain }) => Evaluation {
                ndcg_at_10: Some(gain / units),
                hit_rate_at_10: Some(*hits as f64 / units),
                ..plain
            },
        }
    }
}

fn macro_f1(classes: &[Class]) -> f64 {
    // 2 TP + FP + FN: what was predicted and what is there, each right one in both.
    let all = |class: &&Class| class.predicted + class.present > 0;
    let f1 = |class: &Class| 2.0 * class.right as f64 / (class.predicted + class.present) as f64;
    let scores: Vec<f64> = classes.iter().filter(all).map(f1).collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

/// log Σ exp(z) - z[label], shifted by the maximum so that nothing overflows; infinite if a logit
/// is not finite.
///
/// # Panics
/// If there is no logit `label`.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return f64::INFINITY;
    }
    let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - max).exp())
        .sum();
    max + sum.ln() - f64::from(logits[label])
}

/// The position of the one largest logit. A tie is no answer: a model that says the same for
/// every class must not be right about one of them.
fn largest(logits: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    let mut tied = false;
    for (index, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        match best {
            Some((_, value)) if logit < value => {}
            Some((_, value)) if logit == value => tied = true,
            _ => {
                best = Some((index, logit));
                tied = false;
            }
        }
    }
    let (index, value) = best?;
    (!tied && value.is_finite()).then_some(index)
}

/// 1 and the number of other scores that are not below that of `target`: in ties it comes last.
fn rank(scores: &[f32], target: usize) -> usize {
    let own = scores[target];
    if !own.is_finite() {
        return scores.len();
    }
    let above = scores
        .iter()
        .enumerate()
        .filter(|&(item, score)| item != target && (score.is_nan() || *score >= own));
    1 + above.count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn macro_f1_is_the_textbook_formula() {
        // Labels 0 0 1 1 2, answers 0 1 1 1 0; class 3 does not occur, and nobody says it.
        let mut tally = Tally::default();
        for (label, said) in [(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)] {
            let mut logits = [0.0f32; 4];
            logits[said] = 5.0;
            tally.classes(&logits, 4, &[label]);
        }
        let result = tally.evaluation();
        assert_eq!(result.accuracy, 0.6);
        // F1: 2·1/(2+2), 2·2/(3+2), 0.
        let expected = (0.5 + 0.8 + 0.0) / 3.0;
        assert!((result.macro_f1.unwrap() - expected).abs() < 1e-12);
        assert_eq!((result.num_examples, result.bits_per_byte), (5, None));
    }

    #[test]
    fn bits_per_byte_do_not_depend_on_the_tokens() {
        // The same text, the same probability for the whole, in one token and in four.
        let nll = 8.0 * std::f64::consts::LN_2;
        let of = |units, correct| {
            let mut tally = Tally::default();
            tally.text(1, nll, units, correct, 4);
            tally.evaluation()
        };
        let (coarse, fine) = (of(1, 1), of(4, 2));
        assert_eq!(coarse.bits_per_byte, Some(2.0));
        assert_eq!(fine.bits_per_byte, Some(2.0));
        assert!((coarse.perplexity.unwrap() - 256.0).abs() < 1e-9);
        assert!((fine.perplexity.unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(fine.accuracy, 0.5);
    }

    #[test]
    fn ranks_are_those_among_all_candidates() {
        let mut tally = Tally::default();
        let mut scores = vec![0.0f32; 30];
        scores[7] = 1.0;
        scores[8] = 2.0;
        tally.ranking(&scores, 7);
        // In a tie with 27 others it is the last of them.
        tally.ranking(&scores, 3);
        let result = tally.evaluation();
        assert_eq!(result.hit_rate_at_10, Some(0.5));
        assert!((result.ndcg_at_10.unwrap() - 0.5 / 3f64.log2()).abs() < 1e-12);
        let infinite = [f32::NAN, 1.0];
        tally.ranking(&infinite, 1);
        assert_eq!(tally.evaluation().loss, f64::INFINITY);
        assert_eq!((rank(&infinite, 0), rank(&infinite, 1)), (2, 2));
    }

    #[test]
    fn of_nothing_the_loss_is_infinite() {
        assert_eq!(Tally::default().evaluation().loss, f64::INFINITY);
    }

    #[test]
    fn a_tie_and_what_is_not_finite_are_wrong() {
        assert_eq!(largest(&[1.0, 3.0, 2.0]), Some(1));
        for logits in [
            &[1.0, 1.0][..],
            &[2.0, 2.0, 1.0],
            &[1.0, f32::NAN],
            &[f32::INFINITY, 0.0],
            &[f32::NEG_INFINITY],
            &[],
        ] {
            assert_eq!(largest(logits), None, "{logits:?}");
        }
        assert_eq!(largest(&[1.0, 1.0, 2.0]), Some(2));
    }

    #[test]
    fn cross_entropy_is_the_textbook_formula() {
        let logits = [0.5f32, -1.0, 2.0];
        let sum: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        let naive = -(f64::from(logits[1]).exp() / sum).ln();
        assert!((cross_entropy(&logits, 1) - naive).abs() < 1e-12);
        assert!(cross_entropy(&[1e30, -1e30], 0) < 1e-12);
        assert!(cross_entropy(&[1e30, -1e30], 1).is_finite());
    }

    proptest! {
        #[test]
        fn batches_add_up(
            rows in proptest::collection::vec((proptest::array::uniform3(-4i8..4), 0u32..3), 1..40),
            size in 1usize..9,
        ) {
            let mut tally = Tally::default();
            for batch in rows.chunks(size) {
                let logits: Vec<f32> = batch.iter().flat_map(|row| row.0.map(f32::from)).collect();
                let labels: Vec<u32> = batch.iter().map(|row| row.1).collect();
                tally.classes(&logits, 3, &labels);
            }
            let right = |row: &&([i8; 3], u32)| {
                let own = row.0[row.1 as usize];
                row.0.iter().filter(|&&logit| logit >= own).count() == 1
            };
            let correct = rows.iter().filter(right).count();
            let result = tally.evaluation();
            prop_assert_eq!(result.num_examples, rows.len());
            prop_assert!((result.accuracy - correct as f64 / rows.len() as f64).abs() < 1e-12);
        }
    }
}
