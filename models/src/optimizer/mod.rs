//! Client optimizers: from gradients to the next parameters, with a state that can be kept. On the
//! CPU each parameter is updated where it lies, in one pass over it, its gradient and its state;
//! elsewhere by the device's own operations.

mod kernel;

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::ModelError;
use crate::flatten::Path;
use crate::ops::fused::{contiguous, into_values, supported, tensor, values};
use crate::train::ClientOptimizer;

/// An optimizer under way. Its state is, for each parameter that has had a gradient, the velocity
/// (`sgd` with momentum) or the mean gradient and the mean of its squares (`adamw`).
#[derive(Debug, Clone)]
pub(crate) struct Optimizer {
    rule: ClientOptimizer,
    /// Steps done.
    steps: u32,
    state: BTreeMap<String, Vec<Tensor<1>>>,
}

/// One tensor of an optimizer's state: its name and its values.
pub(crate) type StateTensor = (String, Vec<f32>);

impl Optimizer {
    /// One that has done no step.
    pub(crate) fn new(rule: ClientOptimizer) -> Self {
        Self {
            rule,
            steps: 0,
            state: BTreeMap::new(),
        }
    }

    /// The network a step further. Parameters without a gradient stay as they are.
    pub(crate) fn step<M: Module>(
        &mut self,
        network: M,
        grads: GradientsParams,
        client_lr: f64,
    ) -> M {
        self.steps = self.steps.saturating_add(1);
        network.map(&mut Step {
            path: Path::default(),
            optimizer: self,
            grads,
            client_lr,
        })
    }

    /// Steps done.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    /// The state, ordered by name.
    ///
    /// # Errors
    /// [`ModelError::Compute`] if the device fails.
    pub(crate) fn state(&self) -> Result<Vec<StateTensor>, ModelError> {
        let mut all = Vec::new();
        for (name, tensors) in &self.state {
            for (index, tensor) in tensors.iter().enumerate() {
                let values = tensor.clone().try_into_vec_as::<f32>();
                let values = values.map_err(ModelError::compute)?;
                all.push((format!("{name}/{index}"), values));
            }
        }
        Ok(all)
    }

    /// Goes on from a kept state, in the order that [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`ModelError::Snapshot`] for names that no state has.
    pub(crate) fn restore(
        &mut self,
        steps: u32,
        state: Vec<StateTensor>,
        device: &Device,
    ) -> Result<(), ModelError> {
        self.steps = steps;
        self.state.clear();
        for (name, values) in state {
            let unknown = || ModelError::Snapshot(format!("no optimizer has a state {name}"));
            let (parameter, index) = name.rsplit_once('/').ok_or_else(unknown)?;
            let tensors = self.state.entry(parameter.to_owned()).or_default();
            if index != tensors.len().to_string() {
                return Err(unknown());
            }
            let shape = [values.len()];
            tensors.push(Tensor::from_data(TensorData::new(values, shape), device));
        }
        Ok(())
    }

    /// The parameter `name` a step further, where it lies if nobody else holds its values.
    fn on_cpu<const D: usize>(
        &mut self,
        name: String,
        parameter: Tensor<D>,
        grad: Tensor<D>,
        client_lr: f64,
    ) -> Tensor<D> {
        let update = kernel::Update::new(self.rule, client_lr, self.steps);
        let shape = parameter.dims();
        let mut parameter = into_values(flex(parameter));
        let grad = flex(grad);
        let kept = self.state.remove(&name).unwrap_or_default();
        let mut state: Vec<Vec<f32>> = kept.into_iter().map(flex).map(into_values).collect();
        let fits = state.iter().all(|state| state.len() == parameter.len());
        // At first there is none; and one that was kept for something else is of no use.
        if !fits || state.len() != update.state_tensors() {
            state = vec![vec![0.0; parameter.len()]; update.state_tensors()];
        }
        update.run(&mut parameter, values(&grad), &mut state);
        if !state.is_empty() {
            let kept = |values: Vec<f32>| {
                let shape = [values.len()];
                Tensor::from_primitive::<Flex>(tensor(values, shape))
            };
            self.state
                .insert(name, state.into_iter().map(kept).collect());
        }
        Tensor::from_primitive::<Flex>(tensor(parameter, shape))
    }

    /// What is subtracted from the parameter `name`, over the client learning rate, and what the
    /// parameter is multiplied by before.
    fn direction(
        &mut self,
        name: String,
        parameter: &Tensor<1>,
        grad: Tensor<1>,
        client_lr: f64,
    ) -> (Tensor<1>, f64) {
        match self.rule {
            ClientOptimizer::Sgd {
                momentum,
                weight_decay,
            } => {
                let grad = if weight_decay > 0.0 {
                    grad + parameter.clone() * weight_decay
                } else {
                    grad
                };
                if momentum == 0.0 {
                    return (grad, 1.0);
                }
                let velocity = match self.state.get(&name).and_then(|state| state.first()) {
                    Some(velocity) => grad + velocity.clone() * momentum,
                    None => grad,
                };
                self.state.insert(name, vec![velocity.clone()]);
                (velocity, 1.0)
            }
            ClientOptimizer::AdamW { weight_decay } => {
                let (new_1, new_2) = (
                    grad.clone() * (1.0 - BETA_1),
                    grad.square() * (1.0 - BETA_2),
                );
                let (mean, square) = match self.state.get(&name).map(Vec::as_slice) {
                    Some([mean, square]) => (
                        mean.clone() * BETA_1 + new_1,
                        square.clone() * BETA_2 + new_2,
                    ),
                    _ => (new_1, new_2),
                };
                self.state.insert(name, vec![mean.clone(), square.clone()]);
                let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
                let mean = mean / (1.0 - BETA_1.powi(steps));
                let square = square / (1.0 - BETA_2.powi(steps));
                let direction = mean / (square.sqrt() + EPSILON);
                (direction, 1.0 - client_lr * weight_decay)
            }
        }
    }
}

/// Adam's decay of the mean gradient.
const BETA_1: f32 = 0.9;
/// Adam's decay of the mean square.
const BETA_2: f32 = 0.999;
/// Added to the root of the mean square.
const EPSILON: f32 = 1e-5;

/// The tensor as the CPU has it.
///
/// # Panics
/// If it is elsewhere.
fn flex<const D: usize>(tensor: Tensor<D>) -> burn_flex::FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>();
    contiguous(tensor.expect("the parameter is on the CPU"))
}

struct Step<'a> {
    path: Path,
    optimizer: &'a mut Optimizer,
    grads: GradientsParams,
    client_lr: f64,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let name = self.path.name();
        // Consumed, so that nobody else holds the values.
        let (id, value, mapper) = param.consume();
        let value = value.inner();
        if supported(&value) && supported(&grad) {
            let value = self.optimizer.on_cpu(name, value, grad, self.client_lr);
            let value = Tensor::from_inner(value).require_grad();
            return Param::from_mapped_value(id, value, mapper);
        }
        let shape = value.shape();
        let size = [shape.num_elements()];
        let (value, grad) = (value.reshape(size), grad.reshape(size));
        let (direction, kept) = self.optimizer.direction(name, &value, grad, self.client_lr);
        let value = if kept == 1.0 { value } else { value * kept };
        let value = (value - direction * self.client_lr).reshape(shape);
        // A leaf again: the gradient of the next step ends here.
        Param::from_mapped_value(id, Tensor::from_inner(value).require_grad(), mapper)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::nn::LinearConfig;

    use super::*;

    fn rules() -> [ClientOptimizer; 3] {
        [
            ClientOptimizer::named("sgd", 0.0, 0.1).unwrap(),
            ClientOptimizer::named("sgd", 0.9, 0.0).unwrap(),
            ClientOptimizer::named("adamw", 0.0, 0.1).unwrap(),
        ]
    }

    fn grads(layer: &burn::nn::Linear, device: &Device) -> GradientsParams {
        let x = Tensor::<2>::from_data([[1.0, -2.0, 0.5]], device);
        let loss = layer.forward(x).square().sum();
        GradientsParams::from_grads(loss.backward(), layer)
    }

    fn weights(layer: &burn::nn::Linear) -> Vec<f32> {
        layer.weight.val().try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn steps_follow_the_formulas() {
        let device = Device::flex().autodiff();
        for rule in rules() {
            let mut layer = LinearConfig::new(3, 2).init(&device);
            let mut optimizer = Optimizer::new(rule);
            let (mut first, mut second) = ([0.0f64; 6], [0.0f64; 6]);
            for step in 1..=3 {
                let before = weights(&layer);
                let grads = grads(&layer, &device);
                let grad = grads.get::<2>(layer.weight.id).unwrap();
                let grad = grad.try_into_vec_as::<f32>().unwrap();
                layer = optimizer.step(layer, grads, 0.01);
                for (index, after) in weights(&layer).into_iter().enumerate() {
                    let (w, g) = (f64::from(before[index]), f64::from(grad[index]));
                    let expected = match rule {
                        ClientOptimizer::Sgd {
                            momentum,
                            weight_decay,
                        } => {
                            first[index] = momentum * first[index] + g + weight_decay * w;
                            w - 0.01 * first[index]
                        }
                        ClientOptimizer::AdamW { weight_decay } => {
                            first[index] = 0.9 * first[index] + 0.1 * g;
                            second[index] = 0.999 * second[index] + 0.001 * g * g;
                            let mean = first[index] / (1.0 - 0.9f64.powi(step));
                            let square = second[index] / (1.0 - 0.999f64.powi(step));
                            w * (1.0 - 0.01 * weight_decay) - 0.01 * mean / (square.sqrt() + 1e-5)
                        }
                    };
                    assert!((f64::from(after) - expected).abs() < 2e-6, "{rule} {step}");
                }
            }
        }
    }

    /// The composed step is that of GPUs; here it runs on the CPU.
    #[test]
    fn the_step_in_place_is_the_composed_one() {
        let tensor = |shift: f32| {
            let values = (0..33)
                .map(|i| (i as f32 + shift).sin())
                .collect::<Vec<_>>();
            Tensor::<1>::from_data(TensorData::new(values, [33]), &Device::flex())
        };
        for rule in rules() {
            let (mut fused, mut composed) = (Optimizer::new(rule), Optimizer::new(rule));
            let (mut a, mut b) = (tensor(0.0), tensor(0.0));
            for step in 1..4 {
                (fused.steps, composed.steps) = (step, step);
                let grad = tensor(step as f32);
                a = fused.on_cpu("w".into(), a, grad.clone(), 0.1);
                let (direction, kept) = composed.direction("w".into(), &b, grad, 0.1);
                b = b * kept - direction * 0.1;
                let [a, b] = [&a, &b].map(|x| x.clone().try_into_vec_as::<f32>().unwrap());
                for (a, b) in a.iter().zip(&b) {
                    assert!((a - b).abs() < 1e-6, "{rule} {step}: {a} {b}");
                }
            }
            assert_eq!(fused.state.len(), composed.state.len());
        }
    }

    #[test]
    fn parameters_are_updated_where_they_lie() {
        let device = Device::flex().autodiff();
        let place = |layer: &burn::nn::Linear| {
            let weight = flex(layer.weight.val().inner());
            weight.bytes().as_ptr() as usize
        };
        for rule in rules() {
            let layer = LinearConfig::new(3, 2).init(&device);
            let grads = grads(&layer, &device);
            let before = place(&layer);
            let layer = Optimizer::new(rule).step(layer, grads, 0.1);
            assert_eq!(place(&layer), before);
        }
    }

    #[test]
    fn a_kept_state_goes_on_as_if_nothing_had_been() {
        let device = Device::flex().autodiff();
        for rule in rules() {
            let layer = LinearConfig::new(3, 2).init(&device);
            let mut optimizer = Optimizer::new(rule);
            let layer = optimizer.step(layer.clone(), grads(&layer, &device), 0.1);
            let mut restored = Optimizer::new(rule);
            let state = optimizer.state().unwrap();
            let inner = Device::flex();
            restored.restore(optimizer.steps(), state, &inner).unwrap();
            let next = optimizer.step(layer.clone(), grads(&layer, &device), 0.1);
            let again = restored.step(layer.clone(), grads(&layer, &device), 0.1);
            assert_eq!(weights(&next), weights(&again));
        }
        let mut optimizer = Optimizer::new(rules()[0]);
        let odd = vec![("weight/1".to_owned(), vec![0.0])];
        assert!(optimizer.restore(1, odd, &Device::flex()).is_err());
    }
}
