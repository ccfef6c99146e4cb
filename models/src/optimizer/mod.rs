//! Client optimizers: gradients into steps. On the CPU each parameter is updated where it lies, in
//! one pass over it, its gradient and its moments; elsewhere by the device's own operations.

mod kernel;

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use self::kernel::Update;
use crate::error::ModelError;
use crate::flatten::Path;
use crate::ops::fused::{contiguous, into_values, supported, tensor};
use crate::parameters::{Parameters, TensorSpec};

/// How a gradient g moves a parameter w.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// v = momentum * v + g + weight_decay * w; w -= lr * v. At first v is zero.
    Sgd {
        /// 0 to below 1.
        momentum: f32,
        /// 0 to 1.
        weight_decay: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), betas
    /// 0.9 and 0.999, epsilon 1e-5.
    AdamW {
        /// 0 to 1.
        weight_decay: f32,
    },
}

/// A client optimizer with its state.
#[derive(Debug, Clone)]
pub(crate) struct Optimizer {
    rule: Rule,
    /// Largest norm of the gradient of all parameters together, above 0.
    gradient_norm_max: Option<f32>,
    states: BTreeMap<String, State>,
}

/// What the optimizer remembers of one parameter.
#[derive(Debug, Clone)]
struct State {
    /// The velocity, or the first moment.
    first: Option<Tensor<1>>,
    /// The second moment.
    second: Option<Tensor<1>>,
    /// Steps so far.
    steps: u32,
}

impl Optimizer {
    /// An optimizer that has seen nothing.
    pub(crate) fn new(rule: Rule, gradient_norm_max: Option<f32>) -> Self {
        Self {
            rule,
            gradient_norm_max,
            states: BTreeMap::new(),
        }
    }

    /// Moves every parameter that has a gradient.
    pub(crate) fn step<M: Module>(
        &mut self,
        network: M,
        gradients: GradientsParams,
        client_lr: f64,
    ) -> M {
        let factor = self.gradient_norm_max.map_or(1.0, |max| {
            let norm = gradient_norm(&network, &gradients);
            // Nothing is NaN but a gradient that is.
            if norm > max { max / norm } else { 1.0 }
        });
        network.map(&mut Step {
            path: Path::default(),
            gradients,
            optimizer: self,
            client_lr,
            factor,
        })
    }

    /// The state as tensors by name, to be [restored](Self::restore): `first.`, `second.` and
    /// `steps.`, each with the parameter's name behind it.
    ///
    /// # Errors
    /// [`ModelError::Compute`] if the device fails.
    pub(crate) fn state(&self) -> Result<Parameters, ModelError> {
        let mut tensors = BTreeMap::new();
        for (name, state) in &self.states {
            // Exact below 2²⁴ steps, and then it makes no difference any more.
            tensors.insert(format!("steps.{name}"), vec![state.steps as f32]);
            for (kind, moment) in [("first", &state.first), ("second", &state.second)] {
                let Some(moment) = moment else { continue };
                let values = moment.clone().try_into_vec_as::<f32>();
                let values = values.map_err(|error| ModelError::Compute(error.to_string()))?;
                tensors.insert(format!("{kind}.{name}"), values);
            }
        }
        let layout = tensors.iter().map(|(name, values)| TensorSpec {
            name: name.clone(),
            shape: vec![values.len()],
        });
        let layout = layout.collect();
        Parameters::new(layout, tensors.into_values().flatten().collect())
    }

    /// Continues from a [state](Self::state) of the same network and rule.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if it holds anything that no state does, or a tensor of another
    /// length than the parameter in `layout`.
    pub(crate) fn restore(
        &mut self,
        state: &Parameters,
        layout: &[TensorSpec],
        device: &Device,
    ) -> Result<(), ModelError> {
        let mut states = BTreeMap::new();
        for (spec, values) in state.tensors() {
            let refused = || ModelError::Parameters(format!("{} in an optimizer", spec.name));
            let (kind, name) = spec.name.split_once('.').ok_or_else(refused)?;
            let parameter = layout.iter().find(|parameter| parameter.name == name);
            let len = parameter.ok_or_else(refused)?.len();
            let state = states.entry(name.to_owned()).or_insert(State {
                first: None,
                second: None,
                steps: 0,
            });
            let moment = || {
                let data = TensorData::new(values.to_vec(), [values.len()]);
                Some(Tensor::from_data(data, device))
            };
            match kind {
                "steps" if values.len() == 1 => state.steps = values[0] as u32,
                "first" if values.len() == len => state.first = moment(),
                "second" if values.len() == len => state.second = moment(),
                _ => return Err(refused()),
            }
        }
        self.states = states;
        Ok(())
    }
}

/// One step through a network.
struct Step<'a> {
    path: Path,
    gradients: GradientsParams,
    optimizer: &'a mut Optimizer,
    client_lr: f64,
    /// What gradients are multiplied by.
    factor: f32,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let (id, value, mapper) = param.consume();
        let shape = value.shape();
        let state = self.optimizer.states.remove(&self.path.name());
        let mut state = state.unwrap_or(State {
            first: None,
            second: None,
            steps: 0,
        });
        state.steps = state.steps.saturating_add(1);
        let update = Update::new(
            self.optimizer.rule,
            self.client_lr,
            self.factor,
            state.steps,
        );
        let value = value.inner();
        let value = if supported(&value) && supported(&gradient) {
            on_cpu(update, value, gradient, &mut state)
        } else {
            composed(update, value, gradient, &mut state)
        };
        self.optimizer.states.insert(self.path.name(), state);
        // A leaf again: the gradient of the next step ends here.
        let value = Tensor::from_inner(value.reshape(shape)).require_grad();
        Param::from_mapped_value(id, value, mapper)
    }
}

/// In place, if nobody else holds the values; else in a copy.
fn on_cpu<const D: usize>(
    update: Update,
    value: Tensor<D>,
    gradient: Tensor<D>,
    state: &mut State,
) -> Tensor<D> {
    let flex = |tensor: Tensor<D>| {
        let tensor = tensor.try_into_primitive::<Flex>();
        contiguous(tensor.expect("the caller has checked the device"))
    };
    let shape = value.dims();
    let mut value = into_values(flex(value));
    let gradient = flex(gradient);
    let taken = |moment: &mut Option<Tensor<1>>, wanted: bool| match moment.take() {
        Some(moment) => {
            let moment = moment.try_into_primitive::<Flex>();
            into_values(moment.expect("moments are where their parameter is"))
        }
        None => vec![0.0; if wanted { value.len() } else { 0 }],
    };
    let mut first = taken(&mut state.first, update.with_first());
    let mut second = taken(&mut state.second, update.with_second());
    update.run(
        &mut value,
        crate::ops::fused::values(&gradient),
        &mut first,
        &mut second,
    );
    let back = |values: Vec<f32>| {
        let shape = [values.len()];
        (!values.is_empty()).then(|| Tensor::from_primitive::<Flex>(tensor(values, shape)))
    };
    (state.first, state.second) = (back(first), back(second));
    Tensor::from_primitive::<Flex>(tensor(value, shape))
}

/// By the operations of any device.
fn composed<const D: usize>(
    update: Update,
    value: Tensor<D>,
    gradient: Tensor<D>,
    state: &mut State,
) -> Tensor<D> {
    let len = value.shape().num_elements();
    let shape = value.shape();
    let (w, g) = (
        value.reshape([len]),
        gradient.reshape([len]) * update.factor,
    );
    let moved = match update.rule {
        Rule::Sgd {
            momentum,
            weight_decay,
        } => {
            let g = if weight_decay > 0.0 {
                g + w.clone() * weight_decay
            } else {
                g
            };
            let v = match state.first.take() {
                Some(v) => v * momentum + g,
                None => g,
            };
            state.first = (momentum > 0.0).then(|| v.clone());
            w - v * update.lr
        }
        Rule::AdamW { .. } => {
            let [b1, b2] = kernel::BETAS;
            let first = g.clone() * (1.0 - b1);
            let second = g.square() * (1.0 - b2);
            let (first, second) = match (state.first.take(), state.second.take()) {
                (Some(m), Some(v)) => (m * b1 + first, v * b2 + second),
                _ => (first, second),
            };
            state.first = Some(first.clone());
            state.second = Some(second.clone());
            let deviation = (second / update.second_scale).sqrt() + kernel::EPSILON;
            w * update.keep - first / update.first_scale / deviation * update.lr
        }
    };
    moved.reshape(shape)
}

/// The norm of all gradients together.
fn gradient_norm(network: &impl Module, gradients: &GradientsParams) -> f32 {
    let mut squares = Squares {
        gradients,
        sum: None,
        cpu: 0.0,
    };
    network.visit(&mut squares);
    let elsewhere = squares.sum.map_or(0.0, |sum| sum.into_scalar::<f32>());
    (squares.cpu + f64::from(elsewhere)).sqrt() as f32
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    /// Of gradients that are elsewhere than on the CPU, so that only one number has to come here.
    sum: Option<Tensor<1>>,
    cpu: f64,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else {
            return;
        };
        match supported(&gradient).then(|| gradient.clone().try_into_primitive::<Flex>()) {
            Some(Ok(gradient)) => {
                let gradient = contiguous(gradient);
                self.cpu += kernel::squares(crate::ops::fused::values(&gradient));
            }
            _ => {
                let squares = gradient.square().sum();
                self.sum = Some(match self.sum.take() {
                    Some(sum) => sum + squares,
                    None => squares,
                });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
