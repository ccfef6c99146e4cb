//! Examples on a device, and what is measured of them.

use std::collections::BTreeSet;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::data::{Images, Interactions, Labelled, Row, Sequences};

/// A batch of one kind of examples.
// Few exist at a time, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub(crate) enum Batch {
    /// Images and their classes.
    Images {
        /// Normalized, `[batch, height, width]`.
        pixels: Tensor<3>,
        /// One class for each image.
        labels: Vec<u32>,
    },
    /// Runs of tokens whose next tokens are to be predicted.
    Tokens {
        /// `[batch, length]`, padded behind each row's end.
        ids: Tensor<2, Int>,
        /// The token that follows each, `batch * length` numbers, row by row.
        targets: Vec<u32>,
        /// 1 where the prediction counts, 0 where it does not, likewise.
        weights: Vec<f32>,
        /// Bytes of text that the tokens which count stand for.
        bytes: u64,
    },
    /// Whole texts and their classes.
    Sequences {
        /// `[batch, length]`, padded behind each row's end.
        ids: Tensor<2, Int>,
        /// Tokens of each row that are no padding.
        lengths: Vec<usize>,
        /// One class for each text.
        labels: Vec<u32>,
    },
    /// What users took, each to be told from all other items.
    Pairs {
        /// `[batch]`.
        users: Tensor<1, Int>,
        /// Items that are told apart, none twice, `[candidates]`.
        candidates: Tensor<1, Int>,
        /// Added to a candidate's score, because it stands for so many items: `[1, candidates]`.
        log_weights: Tensor<2>,
        /// Which of the candidates each user took, `batch` numbers.
        taken: Vec<u32>,
    },
    /// Users whose last item is to be found.
    Rankings(Rankings),
}

/// All users of a set with what they had before, of which their vectors are made, and the item that
/// each took last.
#[derive(Debug, Clone)]
pub(crate) struct Rankings {
    pub(crate) before: Interactions,
    pub(crate) last: Vec<Option<u32>>,
}

impl Batch {
    pub(crate) fn images(images: &Images, indices: &[usize], device: &Device) -> Self {
        let mut pixels = Vec::new();
        images.normalized(indices, &mut pixels);
        let shape = [indices.len(), images.height(), images.width()];
        let labels = indices
            .iter()
            .map(|&index| u32::from(images.labels()[index]));
        Self::Images {
            pixels: Tensor::from_data(TensorData::new(pixels, shape), device),
            labels: labels.collect(),
        }
    }

    /// Rows of a language model, each padded with zeros to the longest.
    pub(crate) fn tokens(sequences: &Sequences, indices: &[usize], device: &Device) -> Self {
        let rows: Vec<Row<'_>> = indices.iter().map(|&index| sequences.row(index)).collect();
        let inputs = rows.iter().map(Row::inputs);
        let length = inputs.clone().map(<[u32]>::len).max().unwrap_or(0);
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        for (row, end) in rows.iter().zip((1..).map(|row| row * length)) {
            targets.extend(row.targets());
            targets.resize(end, 0);
            weights.extend(row.marks().map(|mark| f32::from(u8::from(mark))));
            weights.resize(end, 0.0);
        }
        Self::Tokens {
            ids: padded(inputs, length, device),
            targets,
            weights,
            bytes: rows.iter().map(|row| row.bytes() as u64).sum(),
        }
    }

    /// Whole texts, each padded with zeros to the longest.
    pub(crate) fn sequences(texts: &Labelled, indices: &[usize], device: &Device) -> Self {
        let inputs = indices.iter().map(|&index| texts.text(index));
        let lengths: Vec<usize> = inputs.clone().map(<[u32]>::len).collect();
        let length = lengths.iter().copied().max().unwrap_or(0);
        Self::Sequences {
            ids: padded(inputs, length, device),
            lengths,
            labels: indices.iter().map(|&index| texts.labels()[index]).collect(),
        }
    }

    /// Users and items. Each item taken is a candidate, and so are others, drawn evenly: all there
    /// are of a small catalogue. The same indices give the same candidates.
    pub(crate) fn pairs(interactions: &Interactions, indices: &[usize], device: &Device) -> Self {
        let pairs: Vec<(usize, u32)> = indices.iter().map(|&i| interactions.pair(i)).collect();
        let taken: BTreeSet<u32> = pairs.iter().map(|pair| pair.1).collect();
        let others = interactions.catalogue() - taken.len();
        let drawn: Vec<u32> = if others <= OTHERS_MAX {
            let all = 0..interactions.catalogue() as u32;
            all.filter(|item| !taken.contains(item)).collect()
        } else {
            draw(interactions.catalogue(), &taken, indices)
        };
        let log_weight = (others as f32 / drawn.len().max(1) as f32).ln();
        let mut log_weights = vec![0.0; taken.len()];
        log_weights.resize(taken.len() + drawn.len(), log_weight);
        let candidates: Vec<u32> = taken.iter().copied().chain(drawn).collect();
        let place = |pair: &(usize, u32)| candidates[..taken.len()].binary_search(&pair.1);
        let places = pairs
            .iter()
            .map(|pair| place(pair).expect("it is taken") as u32);
        let users: Vec<u32> = pairs.iter().map(|pair| pair.0 as u32).collect();
        Self::Pairs {
            users: integers(&users, device),
            taken: places.collect(),
            candidates: integers(&candidates, device),
            log_weights: floats(log_weights, device).unsqueeze(),
        }
    }

    /// All users, with their last items left out. Users with a single item only help to make
    /// nobody's ranking and are passed over when measured.
    pub(crate) fn rankings(interactions: &Interactions) -> Vec<Self> {
        let (before, last) = interactions.leave_one_out();
        vec![Self::Rankings(Rankings { before, last })]
    }

    /// How many predictions of the batch count: its mean loss is the sum of the losses over this.
    pub(crate) fn units(&self) -> f64 {
        match self {
            Self::Images { labels, .. } | Self::Sequences { labels, .. } => labels.len() as f64,
            Self::Tokens { weights, .. } => weights.iter().map(|&weight| f64::from(weight)).sum(),
            Self::Pairs { taken, .. } => taken.len() as f64,
            Self::Rankings(rankings) => rankings.last.iter().flatten().count() as f64,
        }
    }
}

/// Most items that a batch of interactions is told from.
const OTHERS_MAX: usize = 4096;

/// So many items that are not taken, ascending.
fn draw(catalogue: usize, taken: &BTreeSet<u32>, indices: &[usize]) -> Vec<u32> {
    let mut hasher = blake3::Hasher::new();
    for &index in indices {
        hasher.update(&(index as u64).to_le_bytes());
    }
    let mut rng = ChaCha20Rng::from_seed(*hasher.finalize().as_bytes());
    let mut drawn = BTreeSet::new();
    // Ends soon: there are more than OTHERS_MAX others, and few are taken.
    while drawn.len() < OTHERS_MAX {
        let item = rng.random_range(0..catalogue as u32);
        if !taken.contains(&item) {
            drawn.insert(item);
        }
    }
    drawn.into_iter().collect()
}

/// Rows of ids, each padded with zeros: `[rows, length]`.
fn padded<'a>(
    rows: impl Iterator<Item = &'a [u32]>,
    length: usize,
    device: &Device,
) -> Tensor<2, Int> {
    let mut ids: Vec<i32> = Vec::new();
    let mut count = 0;
    for row in rows {
        count += 1;
        ids.extend(row.iter().map(|&id| id as i32));
        ids.resize(count * length, 0);
    }
    Tensor::from_data(TensorData::new(ids, [count, length]), device)
}

/// Numbers of whole values, on a device: `[values]`.
pub(crate) fn integers(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Numbers on a device: `[values]`.
pub(crate) fn floats(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::TextConfig;
    use crate::tokenizer::Tokenizer;

    fn ids(ids: Tensor<2, Int>) -> Vec<i64> {
        ids.try_into_vec_as::<i64>().unwrap()
    }

    #[test]
    fn rows_of_text_are_padded_and_what_is_padded_counts_nothing() {
        let config = TextConfig {
            sequence_len: 4,
            stride: 3,
            template: None,
        };
        let rows = Sequences::from_text("t", "abcde", &Tokenizer::bytes(), &config).unwrap();
        let batch = Batch::tokens(&rows, &[1, 0], &Device::flex());
        assert_eq!(batch.units(), 5.0);
        let Batch::Tokens {
            ids: tensor,
            targets,
            weights,
            bytes,
        } = batch
        else {
            panic!("rows of text");
        };
        assert_eq!(tensor.dims(), [2, 4]);
        assert_eq!(ids(tensor), [99, 100, 0, 0, 256, 97, 98, 99]);
        assert_eq!(targets, [100, 101, 0, 0, 97, 98, 99, 100]);
        assert_eq!(weights, [0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(bytes, 5);
    }

    fn interactions(catalogue: usize) -> Interactions {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i.csv");
        std::fs::write(&path, "user,item\na,3\nb,1\na,1\n").unwrap();
        Interactions::open(&path, crate::data::Part::Train, catalogue).unwrap()
    }

    fn candidates(batch: Batch) -> (Vec<i64>, Vec<f32>, Vec<u32>, Vec<i64>) {
        let Batch::Pairs {
            users,
            candidates,
            log_weights,
            taken,
        } = batch
        else {
            panic!("pairs");
        };
        (
            candidates.try_into_vec_as::<i64>().unwrap(),
            log_weights.try_into_vec_as::<f32>().unwrap(),
            taken,
            users.try_into_vec_as::<i64>().unwrap(),
        )
    }

    #[test]
    fn all_of_a_small_catalogue_are_candidates() {
        let batch = Batch::pairs(&interactions(5), &[2, 0], &Device::flex());
        let (items, log_weights, taken, users) = candidates(batch);
        assert_eq!(items, [1, 3, 0, 2, 4]);
        assert_eq!(log_weights, [0.0; 5]);
        assert_eq!((taken, users), (vec![0, 1], vec![1, 0]));
    }

    #[test]
    fn some_of_a_large_catalogue_stand_for_all() {
        let of = |indices: &[usize]| {
            candidates(Batch::pairs(
                &interactions(100_000),
                indices,
                &Device::flex(),
            ))
        };
        let (items, log_weights, ..) = of(&[0, 1, 2]);
        assert_eq!(items.len(), 2 + OTHERS_MAX);
        assert_eq!(items[..2], [1, 3]);
        assert!(items[2..].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(!items[2..].contains(&1) && !items[2..].contains(&3));
        let expected = (99_998.0 / OTHERS_MAX as f32).ln();
        assert!((log_weights[2] - expected).abs() < 1e-5 && log_weights[1] == 0.0);
        assert_eq!(items, of(&[0, 1, 2]).0);
        assert_ne!(items, of(&[0, 2, 1]).0);
    }
}
