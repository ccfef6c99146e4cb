//! A recommender with two towers (Yi et al. 2019, "Sampling-bias-corrected neural modeling"): the
//! score of an item for a user is the product of what a small network makes of each.
//!
//! Users' vectors never leave the party that has the users, and are not even kept: whoever trains
//! or measures first reconstructs them from the items that each user has taken, with all else as
//! it is (partially local training: Singhal et al. 2021, arXiv:2102.03448). So only the items'
//! side and the towers travel.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::arch::dense;
use crate::data::{ITEMS_MAX, Interactions};
use crate::error::{ModelError, in_range};
use crate::ops::Activation;

/// Settings of a [`Recommender`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecommenderConfig {
    /// Number of items, 2 to 16,777,216; they are numbered from 0, alike by all parties.
    pub items: usize,
    /// Width of the vectors of users and items, 1 to 1,024.
    pub width: usize,
    /// Width of the hidden layer of each tower, 1 to 4,096.
    pub hidden: usize,
    /// How strongly a user's vector is held near zero while it is reconstructed, above 0, at most
    /// 1,000: one over the variance of its prior.
    pub penalty: f64,
    /// Steps of the reconstruction, 1 to 1,000.
    pub reconstruction_steps: usize,
}

impl Default for RecommenderConfig {
    fn default() -> Self {
        Self {
            items: 1683,
            width: 32,
            hidden: 64,
            penalty: 1.0,
            reconstruction_steps: 40,
        }
    }
}

impl RecommenderConfig {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let items = (2..=ITEMS_MAX).contains(&self.items);
        in_range("items", self.items, items, "2 to 16,777,216")?;
        let width = (1..=1024).contains(&self.width);
        in_range("width", self.width, width, "1 to 1,024")?;
        let hidden = (1..=4096).contains(&self.hidden);
        in_range("hidden", self.hidden, hidden, "1 to 4,096")?;
        let penalty = self.penalty > 0.0 && self.penalty <= 1000.0;
        in_range("penalty", self.penalty, penalty, "above 0, at most 1,000")?;
        let steps = (1..=1000).contains(&self.reconstruction_steps);
        let got = self.reconstruction_steps;
        in_range("reconstruction_steps", got, steps, "1 to 1,000")
    }
}

/// score(u, i) = f(pᵤ) · g(qᵢ) + bᵢ, with towers f and g.
#[derive(Module, Debug)]
pub struct Recommender {
    /// q, `[items, width]`.
    items: Param<Tensor<2>>,
    /// b, `[items]`.
    item_bias: Param<Tensor<1>>,
    user_tower: Tower,
    item_tower: Tower,
    /// p, `[users, width]`: private, and no parameter.
    #[module(skip)]
    users: Option<Tensor<2>>,
    #[module(skip)]
    penalty: f64,
    #[module(skip)]
    steps: usize,
}

/// `x + fc2(relu(fc1(x)))`.
#[derive(Module, Debug)]
struct Tower {
    fc1: Linear,
    fc2: Linear,
}

impl Tower {
    fn new(config: &RecommenderConfig, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(config.width, config.hidden).init(device),
            fc2: LinearConfig::new(config.hidden, config.width).init(device),
        }
    }

    /// # Shapes
    /// - x, output: `[rows, width]`
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = dense(&self.fc1, x.clone(), Activation::Relu);
        x + dense(&self.fc2, hidden, Activation::Identity)
    }
}

impl Recommender {
    /// The network, without users.
    pub fn new(config: &RecommenderConfig, device: &Device) -> Self {
        let table = burn::nn::Initializer::Zeros;
        Self {
            items: table.init([config.items, config.width], device),
            item_bias: table.init([config.items], device),
            user_tower: Tower::new(config, device),
            item_tower: Tower::new(config, device),
            users: None,
            penalty: config.penalty,
            steps: config.reconstruction_steps,
        }
    }

    /// Scores of some items for some users.
    ///
    /// # Shapes
    /// - users: `[batch]`
    /// - items: `[candidates]`
    /// - output: `[batch, candidates]`
    ///
    /// # Panics
    /// Without [reconstructed](Self::reconstruct) users.
    pub(crate) fn forward(&self, users: Tensor<1, Int>, items: Tensor<1, Int>) -> Tensor<2> {
        let table = self.users.clone().expect("users are reconstructed first");
        let users = self.user_tower.forward(table.select(0, users));
        let vectors = self
            .item_tower
            .forward(self.items.val().select(0, items.clone()));
        let bias = self.item_bias.val().select(0, items);
        users.matmul(vectors.transpose()) + bias.unsqueeze()
    }

    /// Scores of all items for the users of a range: `[users, items]`.
    pub(crate) fn scores(&self, users: std::ops::Range<usize>) -> Tensor<2> {
        let table = self.users.clone().expect("users are reconstructed first");
        let users = self.user_tower.forward(table.slice([users]));
        let vectors = self.item_tower.forward(self.items.val());
        users.matmul(vectors.transpose()) + self.item_bias.val().unsqueeze()
    }

    /// So many users' scores of all items fit into memory at a time.
    pub(crate) fn users_at_once(&self) -> usize {
        (SCORES_MAX / self.items.shape()[0]).clamp(1, 1024)
    }

    /// Makes each user's vector from the items taken: that which maximizes
    /// Σ log softmax(score)ᵢ over those items less penalty/2 |p|², sought from zero by a fixed
    /// number of Adam's steps. Deterministic. Costs steps × users × items × width.
    #[must_use]
    pub(crate) fn reconstruct(mut self, taken: &Interactions) -> Self {
        let items = self.item_tower.forward(self.items.val()).detach();
        let fixed = Fixed {
            bias: self.item_bias.val().detach(),
            fc1: (weight(&self.user_tower.fc1), bias(&self.user_tower.fc1)),
            fc2: (weight(&self.user_tower.fc2), bias(&self.user_tower.fc2)),
            items,
            penalty: self.penalty,
            steps: self.steps,
        };
        let all: Vec<usize> = (0..taken.users()).collect();
        let parts = all.chunks(self.users_at_once());
        let parts: Vec<_> = parts.map(|users| fixed.reconstruct(taken, users)).collect();
        self.users = Some(Tensor::cat(parts, 0));
        self
    }

    /// The users' vectors, `[users, width]`, if there are any.
    pub(crate) fn users(&self) -> Option<&Tensor<2>> {
        self.users.as_ref()
    }

    /// The network with these users' vectors, row by row.
    ///
    /// # Errors
    /// [`ModelError::Snapshot`] if they are of another width.
    pub(crate) fn with_users(mut self, users: &[f32], device: &Device) -> Result<Self, ModelError> {
        let width = self.items.shape()[1];
        if !users.len().is_multiple_of(width) {
            return Err(ModelError::Snapshot("users of another width".into()));
        }
        let data = TensorData::new(users.to_vec(), [users.len() / width, width]);
        self.users = Some(Tensor::from_data(data, device));
        Ok(self)
    }
}

/// Most scores in memory at a time.
const SCORES_MAX: usize = 1 << 22;

/// What does not change while users are reconstructed.
struct Fixed {
    /// g(q), `[items, width]`.
    items: Tensor<2>,
    bias: Tensor<1>,
    fc1: (Tensor<2>, Tensor<1>),
    fc2: (Tensor<2>, Tensor<1>),
    penalty: f64,
    steps: usize,
}

impl Fixed {
    /// The vectors of some users: `[users, width]`.
    fn reconstruct(&self, taken: &Interactions, users: &[usize]) -> Tensor<2> {
        let device = self.items.device();
        let [count, width] = self.items.dims();
        // One over the number of items where a user took one: the mean over them.
        let mut shares = vec![0.0f32; users.len() * count];
        let mut penalties = Vec::with_capacity(users.len());
        for (row, &user) in shares.chunks_exact_mut(count).zip(users) {
            let items = taken.items(user);
            for &item in items {
                row[item as usize] = 1.0 / items.len() as f32;
            }
            penalties.push(self.penalty as f32 / items.len().max(1) as f32);
        }
        let shares = Tensor::<2>::from_data(TensorData::new(shares, [users.len(), count]), &device);
        let penalties = TensorData::new(penalties, [users.len(), 1]);
        let penalties = Tensor::<2>::from_data(penalties, &device);
        let wanted = shares.matmul(self.items.clone());
        let mut p = Tensor::<2>::zeros([users.len(), width], &device);
        let (mut mean, mut square) = (p.clone(), p.clone());
        for step in 1..=self.steps {
            let gradient = self.gradient(&p, &wanted) + p.clone() * penalties.clone();
            mean = mean * BETA_1 + gradient.clone() * (1.0 - BETA_1);
            square = square * BETA_2 + gradient.powi_scalar(2) * (1.0 - BETA_2);
            let (m, s) = (
                mean.clone() / (1.0 - BETA_1.powi(step as i32)),
                square.clone() / (1.0 - BETA_2.powi(step as i32)),
            );
            // Down to nothing in the end, so that the last steps settle.
            let rate = RATE * (1.0 - (step - 1) as f64 / self.steps as f64);
            p = p - m / (s.sqrt() + 1e-8) * rate;
        }
        p.detach()
    }

    /// Gradient of the mean loss of each user's items with respect to p: with y = f(p),
    /// ∂/∂y = softmax(score) g(q) − mean of the g(q) taken, then back through the tower.
    fn gradient(&self, p: &Tensor<2>, wanted: &Tensor<2>) -> Tensor<2> {
        let ((w1, b1), (w2, b2)) = (&self.fc1, &self.fc2);
        let before = p.clone().matmul(w1.clone()) + b1.clone().unsqueeze();
        let hidden = relu(before.clone());
        let y = p.clone() + hidden.matmul(w2.clone()) + b2.clone().unsqueeze();
        let scores = y.matmul(self.items.clone().transpose()) + self.bias.clone().unsqueeze();
        let to_y = softmax(scores, 1).matmul(self.items.clone()) - wanted.clone();
        let to_hidden = to_y.clone().matmul(w2.clone().transpose());
        let to_hidden = to_hidden.mask_fill(before.lower_equal_elem(0.0), 0.0);
        to_y + to_hidden.matmul(w1.clone().transpose())
    }
}

/// Adam's settings of the reconstruction.
const RATE: f64 = 0.2;
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.99;

fn weight(layer: &Linear) -> Tensor<2> {
    layer.weight.val().detach()
}

fn bias(layer: &Linear) -> Tensor<1> {
    let bias = layer.bias.as_ref().expect("towers have biases");
    bias.val().detach()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::Part;
    use crate::model::Model;
    use crate::network::Network;
    use crate::registry::ModelConfig;

    fn taken() -> Interactions {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i.csv");
        std::fs::write(&path, "user,item\na,0\na,2\na,4\nb,5\n").unwrap();
        Interactions::open(&path, Part::Train, 6).unwrap()
    }

    fn network(penalty: f64) -> Recommender {
        let config = RecommenderConfig {
            items: 6,
            width: 3,
            hidden: 5,
            penalty,
            reconstruction_steps: 300,
        };
        let model = Model::new(ModelConfig::Recommender(config)).unwrap();
        let device = Device::flex();
        let mut initial = model.initial(3).unwrap();
        for value in initial.values_mut() {
            // Biases, too, and nothing symmetric.
            *value += 0.3 * (*value * 1e4).sin();
        }
        let network = model
            .load(&model.frame(&device).unwrap(), &initial, &device)
            .unwrap();
        let Network::Recommender(network) = network else {
            panic!("a recommender");
        };
        network
    }

    /// Σ nll over the items taken + penalty/2 |p|², of user 0.
    fn objective(network: &Recommender, users: &[f32], taken: &Interactions) -> f64 {
        let network = network.clone();
        let network = network.with_users(users, &Device::flex()).unwrap();
        let scores = network.scores(0..1).try_into_vec_as::<f32>().unwrap();
        let sum: f64 = scores.iter().map(|&score| f64::from(score).exp()).sum();
        let items = taken.items(0).iter();
        let nll: f64 = items
            .map(|&item| sum.ln() - f64::from(scores[item as usize]))
            .sum();
        let square: f64 = users[..3].iter().map(|&p| f64::from(p).powi(2)).sum();
        nll + network.penalty / 2.0 * square
    }

    #[test]
    fn shapes_are_as_documented() {
        let network = network(1.0).reconstruct(&taken());
        let device = Device::flex();
        let users = Tensor::<1, Int>::from_data([1, 0], &device);
        let items = Tensor::<1, Int>::from_data([4, 1, 5], &device);
        let some = network.forward(users, items);
        assert_eq!(some.dims(), [2, 3]);
        let all = network.scores(0..2);
        assert_eq!(all.dims(), [2, 6]);
        let (some, all) = (
            some.try_into_vec_as::<f32>().unwrap(),
            all.try_into_vec_as::<f32>().unwrap(),
        );
        for (got, expected) in some
            .iter()
            .zip([all[10], all[7], all[11], all[4], all[1], all[5]])
        {
            assert!((got - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn reconstruction_finds_the_minimum_of_its_objective() {
        let taken = taken();
        let network = network(0.7).reconstruct(&taken);
        let users = network.users().unwrap().clone();
        let users = users.try_into_vec_as::<f32>().unwrap();
        let best = objective(&network, &users, &taken);
        for (place, step) in [0usize, 1, 2]
            .into_iter()
            .flat_map(|p| [(p, 0.05f32), (p, -0.05)])
        {
            let mut moved = users.clone();
            moved[place] += step;
            let value = objective(&network, &moved, &taken);
            assert!(value > best, "{place} {step}: {value} {best}");
        }
        assert!(best < objective(&network, &vec![0.0; users.len()], &taken) - 0.01);
    }

    #[test]
    fn a_strong_penalty_holds_users_near_zero() {
        let users = network(1000.0)
            .reconstruct(&taken())
            .users()
            .unwrap()
            .clone();
        let users = users.try_into_vec_as::<f32>().unwrap();
        assert!(users.iter().all(|p| p.abs() < 0.01), "{users:?}");
    }
}
