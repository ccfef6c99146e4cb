//! Metrics from sums over examples, and the sums.
//!
//! Text is measured in bits per byte: the model's surprise over a text, in bits, divided by the
//! bytes of the text. Unlike loss per token and perplexity, it does not depend on how the text was
//! cut into tokens, so that no tokenizer can game it.

use serde::Serialize;

/// Ranks up to this one count in [`Metrics::ndcg_at_10`] and [`Metrics::hit_rate_at_10`].
pub const RANKS_COUNTED: usize = 10;

/// How well a model does on a data set; what a metric needs and the data has not is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metrics {
    /// Mean negative log-likelihood with natural logarithm, 0 or more; lower is better. Per image
    /// or text for classifiers, per token that counts for language models, per user's left-out
    /// item for recommenders. Infinite if the model's output is not finite.
    pub loss: f64,
    /// Images, texts, sequences or users seen.
    pub num_examples: usize,
    /// Share of classes or tokens predicted correctly, 0 to 1. Output that is not finite, and a
    /// tie, is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean over the classes, of those that occur or were predicted, of
    /// F1 = 2 TP / (2 TP + FP + FN), 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Σ nll / (ln 2 · bytes of the text that the counted tokens cover); lower is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// exp(loss) of a language model; comparable for one tokenizer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Mean over users of 1 / log₂(1 + rank) of the left-out item if its rank is at most 10, else
    /// 0 (He et al. 2017, arXiv:1708.05031); all items that the user has not had are ranked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ndcg_at_10: Option<f64>,
    /// Share of the users whose left-out item has a rank of at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_rate_at_10: Option<f64>,
}

/// Sums over what a model was evaluated on so far. Batches add up in the order in which they are
/// added: the same batches give the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    nll: f64,
    /// What the loss is the mean over.
    units: u64,
    examples: u64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Classes(Vec<Class>),
    Text { correct: u64, bytes: u64 },
    Ranks { hits: u64, gain: f64 },
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Class {
    right: u64,
    predicted: u64,
    present: u64,
}

impl Tally {
    /// Of a classifier with so many classes.
    #[must_use]
    pub fn of_classes(classes: usize) -> Self {
        Self::new(Kind::Classes(vec![Class::default(); classes]))
    }

    /// Of a language model.
    #[must_use]
    pub fn of_text() -> Self {
        Self::new(Kind::Text {
            correct: 0,
            bytes: 0,
        })
    }

    /// Of a recommender.
    #[must_use]
    pub fn of_ranks() -> Self {
        Self::new(Kind::Ranks { hits: 0, gain: 0.0 })
    }

    fn new(kind: Kind) -> Self {
        Self {
            nll: 0.0,
            units: 0,
            examples: 0,
            kind,
        }
    }

    /// Adds one example of class `label` with its logits, one for each class.
    ///
    /// # Panics
    /// If this is no tally of classes, or `label` or `logits` are not of so many classes.
    pub fn add_class(&mut self, logits: &[f32], label: usize) {
        let Kind::Classes(classes) = &mut self.kind else {
            panic!("a tally of classes counts classes");
        };
        assert_eq!(logits.len(), classes.len(), "one logit for each class");
        classes[label].present += 1;
        if let Some(class) = largest(logits) {
            classes[class].predicted += 1;
            classes[class].right += u64::from(class == label);
        }
        self.nll += cross_entropy(logits, label);
        self.units += 1;
        self.examples += 1;
    }

    /// Adds a sequence: the sum of the negative log-likelihoods of the `counted` tokens, how many
    /// of them had the largest logit, and the bytes that they cover.
    ///
    /// # Panics
    /// If this is no tally of text.
    pub fn add_sequence(&mut self, nll: f64, counted: u64, correct: u64, bytes: u64) {
        let Kind::Text {
            correct: all_correct,
            bytes: all_bytes,
        } = &mut self.kind
        else {
            panic!("a tally of text counts tokens");
        };
        *all_correct += correct;
        *all_bytes += bytes;
        self.nll += finite_or_infinite(nll);
        self.units += counted;
        self.examples += 1;
    }

    /// Adds a user: the scores of the items that are ranked, of which `target` was left out.
    ///
    /// # Panics
    /// If this is no tally of ranks, or there is no item `target`.
    pub fn add_ranking(&mut self, scores: &[f32], target: usize) {
        let Kind::Ranks { hits, gain } = &mut self.kind else {
            panic!("a tally of ranks counts ranks");
        };
        let rank = rank(scores, target);
        if rank <= RANKS_COUNTED {
            *hits += 1;
            *gain += 1.0 / (1.0 + rank as f64).log2();
        }
        self.nll += cross_entropy(scores, target);
        self.units += 1;
        self.examples += 1;
    }

    /// Adds what another tally of the same kind has seen.
    ///
    /// # Panics
    /// If it is of another kind or number of classes.
    pub fn add(&mut self, other: &Self) {
        match (&mut self.kind, &other.kind) {
            (Kind::Classes(ours), Kind::Classes(theirs)) if ours.len() == theirs.len() => {
                for (ours, theirs) in ours.iter_mut().zip(theirs) {
                    ours.right += theirs.right;
                    ours.predicted += theirs.predicted;
                    ours.present += theirs.present;
                }
            }
            (
                Kind::Text { correct, bytes },
                Kind::Text {
                    correct: more_correct,
                    bytes: more_bytes,
                },
            ) => {
                *correct += more_correct;
                *bytes += more_bytes;
            }
            (
                Kind::Ranks { hits, gain },
                Kind::Ranks {
                    hits: more_hits,
                    gain: more_gain,
                },
            ) => {
                *hits += more_hits;
                *gain += more_gain;
            }
            _ => panic!("tallies of one kind add up"),
        }
        self.nll += other.nll;
        self.units += other.units;
        self.examples += other.examples;
    }

    /// The metrics. The loss of nothing is infinite.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let units = self.units.max(1) as f64;
        let loss = if self.units == 0 {
            f64::INFINITY
        } else {
            self.nll / units
        };
        let none = Metrics {
            loss,
            num_examples: self.examples as usize,
            accuracy: None,
            macro_f1: None,
            bits_per_byte: None,
            perplexity: None,
            ndcg_at_10: None,
            hit_rate_at_10: None,
        };
        match &self.kind {
            Kind::Classes(classes) => {
                let right: u64 = classes.iter().map(|class| class.right).sum();
                Metrics {
                    accuracy: Some(right as f64 / units),
                    macro_f1: Some(macro_f1(classes)),
                    ..none
                }
            }
            Kind::Text { correct, bytes } => Metrics {
                accuracy: Some(*correct as f64 / units),
                bits_per_byte: (*bytes > 0)
                    .then(|| self.nll / std::f64::consts::LN_2 / *bytes as f64),
                perplexity: Some(loss.exp()),
                ..none
            },
            Kind::Ranks { hits, gain } => Metrics {
                ndcg_at_10: Some(gain / units),
                hit_rate_at_10: Some(*hits as f64 / units),
                ..none
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
pub(crate) fn cross_entropy(logits: &[f32], label: usize) -> f64 {
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
pub(crate) fn largest(logits: &[f32]) -> Option<usize> {
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

fn finite_or_infinite(nll: f64) -> f64 {
    if nll.is_finite() { nll } else { f64::INFINITY }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn macro_f1_is_the_textbook_formula() {
        // Labels 0 0 1 1 2, answers 0 1 1 1 0; class 3 does not occur, and nobody says it.
        let mut tally = Tally::of_classes(4);
        for (label, said) in [(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)] {
            let mut logits = [0.0f32; 4];
            logits[said] = 5.0;
            tally.add_class(&logits, label);
        }
        let metrics = tally.metrics();
        assert_eq!(metrics.accuracy, Some(0.6));
        // F1: 2·1/(2+2), 2·2/(3+2), 0.
        let expected = (0.5 + 0.8 + 0.0) / 3.0;
        assert!((metrics.macro_f1.unwrap() - expected).abs() < 1e-12);
        assert_eq!(metrics.num_examples, 5);
        assert_eq!(metrics.bits_per_byte, None);
    }

    #[test]
    fn bits_per_byte_do_not_depend_on_the_tokens() {
        // The same text, the same probability for the whole, in one token and in four.
        let nll = 8.0 * std::f64::consts::LN_2;
        let mut coarse = Tally::of_text();
        coarse.add_sequence(nll, 1, 1, 4);
        let mut fine = Tally::of_text();
        fine.add_sequence(nll, 4, 2, 4);
        let (coarse, fine) = (coarse.metrics(), fine.metrics());
        assert_eq!(coarse.bits_per_byte, Some(2.0));
        assert_eq!(fine.bits_per_byte, Some(2.0));
        assert!((coarse.perplexity.unwrap() - 256.0).abs() < 1e-9);
        assert!((fine.perplexity.unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(fine.accuracy, Some(0.5));
    }

    #[test]
    fn ranks_are_those_among_all_candidates() {
        let mut tally = Tally::of_ranks();
        let mut scores = vec![0.0f32; 30];
        scores[7] = 1.0;
        scores[8] = 2.0;
        tally.add_ranking(&scores, 7);
        // In a tie with 27 others it is the last of them.
        tally.add_ranking(&scores, 3);
        let metrics = tally.metrics();
        assert_eq!(metrics.hit_rate_at_10, Some(0.5));
        assert!((metrics.ndcg_at_10.unwrap() - 0.5 / 3f64.log2()).abs() < 1e-12);
        let infinite = [f32::NAN, 1.0];
        tally.add_ranking(&infinite, 0);
        tally.add_ranking(&infinite, 1);
        assert_eq!(tally.metrics().loss, f64::INFINITY);
        assert_eq!(rank(&infinite, 0), 2);
        assert_eq!(rank(&infinite, 1), 2);
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

    #[test]
    fn of_nothing_the_loss_is_infinite() {
        assert_eq!(Tally::of_text().metrics().loss, f64::INFINITY);
        assert_eq!(Tally::of_classes(3).metrics().accuracy, Some(0.0));
    }

    proptest! {
        #[test]
        fn tallies_of_parts_add_up(
            rows in proptest::collection::vec((proptest::array::uniform3(-4i8..4), 0usize..3), 1..40),
            cut in 0usize..40,
        ) {
            let of = |rows: &[([i8; 3], usize)]| {
                let mut tally = Tally::of_classes(3);
                for (logits, label) in rows {
                    tally.add_class(&logits.map(f32::from), *label);
                }
                tally
            };
            let cut = cut.min(rows.len());
            let mut parts = of(&rows[..cut]);
            parts.add(&of(&rows[cut..]));
            let (parts, whole) = (parts.metrics(), of(&rows).metrics());
            prop_assert_eq!(parts.accuracy, whole.accuracy);
            prop_assert_eq!(parts.macro_f1, whole.macro_f1);
            prop_assert!((parts.loss - whole.loss).abs() < 1e-9);
        }
    }
}
