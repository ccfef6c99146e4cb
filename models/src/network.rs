//! Any of the models, as one burn module.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::arch::bert::Bert;
use crate::arch::cnn::Cnn;
use crate::arch::llama::Llama;
use crate::arch::mlp::Mlp;
use crate::arch::recommender::Recommender;
use crate::arch::resnet18::Resnet18;
use crate::arch::transformer::Transformer;
use crate::batch::{Batch, Rankings, floats, integers};
use crate::data::Dataset;
use crate::error::ModelError;
use crate::evaluate::Tally;
use crate::export::Collector;
use crate::layers::Builder;
use crate::ops::{cross_entropy, head_cross_entropy};
use crate::registry::ModelConfig;

// Only one exists at a time, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub(crate) enum Network {
    Bert(Bert),
    Cnn(Cnn),
    Llama(Llama),
    Mlp(Mlp),
    Recommender(Recommender),
    Resnet18(Resnet18),
    Transformer(Transformer),
}

impl Network {
    /// The model with what the builder gives it; trained values are lazy, to be replaced by those
    /// of parameters.
    ///
    /// # Errors
    /// [`ModelError::Base`] or [`ModelError::File`] for a base that is not the model's.
    pub(crate) fn new(config: &ModelConfig, builder: &Builder<'_>) -> Result<Self, ModelError> {
        let device = builder.device();
        Ok(match config {
            ModelConfig::Bert(config) => Self::Bert(Bert::new(config, builder)?),
            ModelConfig::Llama(config) => Self::Llama(Llama::new(config, builder)?),
            ModelConfig::Transformer(config) => {
                Self::Transformer(Transformer::new(config, builder)?)
            }
            ModelConfig::Cnn(config) => Self::Cnn(Cnn::new(config, device)),
            ModelConfig::Mlp(config) => Self::Mlp(Mlp::new(config, device)),
            ModelConfig::Recommender(config) => Self::Recommender(Recommender::new(config, device)),
            ModelConfig::Resnet18(config) => Self::Resnet18(Resnet18::new(config, device)),
        })
    }

    /// The network with what it has of the party's own, that does not travel, made anew from the
    /// party's data: a recommender's users. Others stay as they are.
    #[must_use]
    pub(crate) fn reconstruct(self, data: &Dataset) -> Self {
        match (self, data) {
            (Self::Recommender(network), Dataset::Interactions(taken)) => {
                Self::Recommender(network.reconstruct(taken))
            }
            (network, _) => network,
        }
    }

    /// What [`reconstruct`](Self::reconstruct) made, if anything.
    ///
    /// # Errors
    /// [`ModelError::Compute`] if the device fails.
    pub(crate) fn users(&self) -> Result<Option<Vec<f32>>, ModelError> {
        let Self::Recommender(network) = self else {
            return Ok(None);
        };
        let values = network
            .users()
            .map(|users| users.clone().try_into_vec_as::<f32>());
        values.transpose().map_err(ModelError::compute)
    }

    /// The same network with what was once made.
    ///
    /// # Errors
    /// [`ModelError::Snapshot`] if it does not fit.
    pub(crate) fn with_users(self, users: &[f32], device: &Device) -> Result<Self, ModelError> {
        match self {
            Self::Recommender(network) => network.with_users(users, device).map(Self::Recommender),
            _ => Err(ModelError::Snapshot("users of no recommender".into())),
        }
    }

    /// Gives the weights of a model that reads text; of others nothing.
    pub(crate) fn collect(&self, to: &mut Collector) {
        match self {
            Self::Bert(bert) => bert.collect(to),
            Self::Llama(llama) => llama.collect(to),
            Self::Transformer(transformer) => transformer.collect(to),
            _ => {}
        }
    }

    /// The sum of the losses of all predictions of the batch that count, one value, in nats.
    ///
    /// `log_prior`, `[1, classes]`, is added to the logits of a classifier.
    pub(crate) fn loss(&self, batch: &Batch, log_prior: Option<&Tensor<2>>) -> Tensor<1> {
        if let (Self::Recommender(network), Batch::Pairs { .. }) = (self, batch) {
            return pairs_loss(network, batch);
        }
        if let Some((hidden, targets, weights)) = self.predictions(batch) {
            let device = hidden.device();
            let (targets, weights) = (integers(&targets, &device), floats(weights, &device));
            return match self.head(hidden.is_autodiff()) {
                Some((w, first)) => head_cross_entropy(hidden, w, first, targets, weights),
                None => cross_entropy(self.next_tokens(hidden), targets, weights),
            };
        }
        let (logits, labels) = self.classify(batch);
        let logits = match log_prior {
            Some(log_prior) => logits + log_prior.clone(),
            None => logits,
        };
        let device = logits.device();
        let weights = floats(vec![1.0; labels.len()], &device);
        cross_entropy(logits, integers(labels, &device), weights)
    }

    /// Measures the batch.
    ///
    /// # Errors
    /// [`ModelError::Compute`] if the device fails.
    pub(crate) fn tally(&self, batch: &Batch, tally: &mut Tally) -> Result<(), ModelError> {
        if let (Self::Recommender(network), Batch::Rankings(rankings)) = (self, batch) {
            return rank(network, rankings, tally);
        }
        if let (Some(predictions), Batch::Tokens { ids, bytes, .. }) =
            (self.predictions(batch), batch)
        {
            return self.tally_text(predictions, ids.dims()[0], *bytes, tally);
        }
        let (logits, labels) = self.classify(batch);
        let [_, classes] = logits.dims();
        let logits = logits
            .try_into_vec_as::<f32>()
            .map_err(ModelError::compute)?;
        tally.classes(&logits, classes, labels);
        Ok(())
    }

    /// Of a language model: what it makes of the positions whose predictions count,
    /// `[predictions, width]`, what each should predict, and how much each counts.
    fn predictions(&self, batch: &Batch) -> Option<(Tensor<2>, Vec<u32>, Vec<f32>)> {
        let Batch::Tokens {
            ids,
            targets,
            weights,
            ..
        } = batch
        else {
            return None;
        };
        let hidden = match self {
            Self::Llama(llama) => llama.hidden(ids.clone()),
            Self::Transformer(transformer) => transformer.hidden(ids.clone()),
            _ => return None,
        };
        let hidden = hidden.flatten::<2>(0, 1);
        let counting: Vec<u32> = (0..weights.len() as u32)
            .filter(|&at| weights[at as usize] != 0.0)
            .collect();
        if counting.len() == weights.len() || counting.is_empty() {
            return Some((hidden, targets.clone(), weights.clone()));
        }
        // The head is most of the work: it sees only what counts.
        let device = hidden.device();
        let at = |&index: &u32| index as usize;
        Some((
            hidden.select(0, integers(&counting, &device)),
            counting.iter().map(|index| targets[at(index)]).collect(),
            counting.iter().map(|index| weights[at(index)]).collect(),
        ))
    }

    /// Scores of the next token, `[predictions, vocabulary]`.
    fn next_tokens(&self, hidden: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Llama(llama) => llama.logits(hidden),
            Self::Transformer(transformer) => transformer.logits(hidden),
            _ => unreachable!("only language models predict tokens"),
        }
    }

    /// The weights of a language model's head, and whether outputs come first, if the head is
    /// nothing but a product with them.
    fn head(&self, autodiff: bool) -> Option<(Tensor<2>, bool)> {
        match self {
            Self::Llama(llama) => llama.head(autodiff),
            Self::Transformer(transformer) => transformer.head(autodiff),
            _ => None,
        }
    }

    /// Measures predictions, so many at a time that the logits stay small.
    fn tally_text(
        &self,
        (hidden, targets, weights): (Tensor<2>, Vec<u32>, Vec<f32>),
        rows: usize,
        bytes: u64,
        tally: &mut Tally,
    ) -> Result<(), ModelError> {
        let device = hidden.device();
        let (mut loss, mut units, mut correct) = (0.0, 0, 0);
        for begin in (0..targets.len()).step_by(PREDICTIONS_AT_ONCE) {
            let end = targets.len().min(begin + PREDICTIONS_AT_ONCE);
            let logits = self.next_tokens(hidden.clone().narrow(0, begin, end - begin));
            let likeliest = logits.clone().argmax(1);
            let likeliest = likeliest
                .try_into_vec_as::<i64>()
                .map_err(ModelError::compute)?;
            let (targets, weights) = (&targets[begin..end], &weights[begin..end]);
            let weight = floats(weights.to_vec(), &device);
            let sum = cross_entropy(logits, integers(targets, &device), weight);
            loss += f64::from(sum.try_into_scalar::<f32>().map_err(ModelError::compute)?);
            for ((&target, &weight), likeliest) in targets.iter().zip(weights).zip(likeliest) {
                if weight != 0.0 {
                    units += 1;
                    correct += u64::from(likeliest == i64::from(target));
                }
            }
        }
        tally.text(rows, loss, units, correct, bytes);
        Ok(())
    }

    /// Logits of a classifier, `[batch, classes]`, and the classes.
    ///
    /// # Panics
    /// If the batch is not of the kind that the model takes: data sets are checked before.
    fn classify<'a>(&self, batch: &'a Batch) -> (Tensor<2>, &'a [u32]) {
        match (self, batch) {
            (Self::Cnn(cnn), Batch::Images { pixels, labels }) => {
                (cnn.forward(pixels.clone()), labels)
            }
            (Self::Mlp(mlp), Batch::Images { pixels, labels }) => {
                (mlp.forward(pixels.clone()), labels)
            }
            (
                Self::Bert(bert),
                Batch::Sequences {
                    ids,
                    lengths,
                    labels,
                },
            ) => (bert.forward(ids.clone(), lengths), labels),
            (Self::Resnet18(resnet), Batch::Images { pixels, labels }) => {
                (resnet.forward(pixels.clone()), labels)
            }
            _ => unreachable!("the data set was checked against the model"),
        }
    }
}

/// Predictions of a language model that are measured at a time.
const PREDICTIONS_AT_ONCE: usize = 256;

/// Each item taken, told from the candidates.
fn pairs_loss(network: &Recommender, batch: &Batch) -> Tensor<1> {
    let Batch::Pairs {
        users,
        candidates,
        log_weights,
        taken,
    } = batch
    else {
        unreachable!("the caller looked");
    };
    let scores = network.forward(users.clone(), candidates.clone()) + log_weights.clone();
    let device = scores.device();
    let weights = floats(vec![1.0; taken.len()], &device);
    cross_entropy(scores, integers(taken, &device), weights)
}

/// Reconstructs all users from what they had before, and ranks the item that each took last among
/// all that it had not.
fn rank(network: &Recommender, rankings: &Rankings, tally: &mut Tally) -> Result<(), ModelError> {
    let network = network.clone().reconstruct(&rankings.before);
    let (count, step) = (rankings.before.users(), network.users_at_once());
    for begin in (0..count).step_by(step) {
        let end = (begin + step).min(count);
        let scores = network.scores(begin..end);
        let [_, items] = scores.dims();
        let scores = scores
            .try_into_vec_as::<f32>()
            .map_err(ModelError::compute)?;
        for (row, user) in scores.chunks_exact(items).zip(begin..) {
            let Some(last) = rankings.last[user] else {
                continue;
            };
            let had: BTreeSet<u32> = rankings.before.items(user).iter().copied().collect();
            let open = (0..items as u32).filter(|item| !had.contains(item));
            let (mut open_scores, mut target) = (Vec::with_capacity(items), 0);
            for item in open {
                if item == last {
                    target = open_scores.len();
                }
                open_scores.push(row[item as usize]);
            }
            tally.ranking(&open_scores, target);
        }
    }
    Ok(())
}
