//! Gradients of a step: added up over micro-batches, pulled towards the base, and bounded.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};

use super::scaling::LossScale;
use crate::batch::Batch;
use crate::data::Dataset;
use crate::device::Precision;
use crate::error::{ModelError, panic_text};
use crate::flatten::{Path, Shift};
use crate::network::Network;
use crate::ops::{autocast, on_pool};

/// Computes the gradients of batches, so many examples at a time.
pub(super) struct Accumulator<'a> {
    pub(super) data: &'a Dataset,
    pub(super) device: Device,
    /// Added to the logits: `[1, classes]`.
    pub(super) log_prior: Option<Tensor<2>>,
    /// Examples at a time, 1 or more; halved whenever the device has not memory enough.
    pub(super) micro_batch: usize,
    /// Of matrix products.
    pub(super) precision: Precision,
    /// Of the loss, before its gradients are computed.
    pub(super) scale: LossScale,
}

impl Accumulator<'_> {
    /// The mean loss of a batch and its gradients.
    ///
    /// # Errors
    /// [`ModelError::Compute`] if the device fails, be it for want of memory for one example.
    pub(super) fn compute(
        &mut self,
        network: &Network,
        batch: &[usize],
    ) -> Result<(f32, GradientsParams), ModelError> {
        let _products = autocast::enter(self.precision);
        loop {
            // Nothing is changed by a computation that fails, so that it may be tried again.
            let attempt = catch_unwind(AssertUnwindSafe(|| {
                on_pool(&self.device, || self.attempt(network, batch))
            }));
            let reason = match attempt {
                Ok(Err(ModelError::Compute(reason))) if wants_memory(&reason) => reason,
                Ok(Ok((loss, grads))) => match self.unscale(network, loss, grads)? {
                    Some(done) => return Ok(done),
                    None => continue,
                },
                Ok(Err(error)) => return Err(error),
                Err(panic) => match panic_text(&*panic) {
                    Some(reason) if wants_memory(reason) => reason.to_owned(),
                    _ => resume_unwind(panic),
                },
            };
            let tried = self.micro_batch.min(batch.len());
            if tried <= 1 {
                return Err(ModelError::Compute(reason));
            }
            self.micro_batch = tried.div_ceil(2);
            tracing::warn!(
                micro_batch = self.micro_batch,
                "the device is out of memory: going on with smaller micro-batches"
            );
        }
    }

    /// The gradients without the loss's scale; nothing if they overflowed with it, but may not with
    /// a smaller one.
    fn unscale(
        &mut self,
        network: &Network,
        loss: f32,
        grads: GradientsParams,
    ) -> Result<Option<(f32, GradientsParams)>, ModelError> {
        if !self.scale.moves() {
            return Ok(Some((loss, grads)));
        }
        let grads = scaled(network, grads, 1.0 / self.scale.factor());
        if loss.is_finite() && !norm(network, &grads)?.is_finite() && self.scale.overflowed() {
            return Ok(None);
        }
        self.scale.stepped();
        Ok(Some((loss, grads)))
    }

    fn attempt(
        &self,
        network: &Network,
        batch: &[usize],
    ) -> Result<(f32, GradientsParams), ModelError> {
        let parts = batch.chunks(self.micro_batch);
        let parts: Vec<Batch> = parts
            .map(|part| self.data.batch(part, &self.device))
            .collect();
        let units: f64 = parts.iter().map(Batch::units).sum();
        let one = |part: &Batch| {
            let loss = network.loss(part, self.log_prior.as_ref()) / units;
            let grads =
                GradientsParams::from_grads(scaled_loss(&loss, self.scale).backward(), network);
            let loss = loss.try_into_scalar::<f32>();
            let loss = loss.map_err(ModelError::compute)?;
            Ok::<_, ModelError>((loss, grads))
        };
        let [part] = parts.as_slice() else {
            let mut sum = 0.0;
            let mut all = GradientsAccumulator::new();
            for part in &parts {
                let (loss, grads) = one(part)?;
                sum += loss;
                all.accumulate(network, grads);
            }
            return Ok((sum, all.grads()));
        };
        one(part)
    }
}

/// Whether a device's complaint is about memory.
fn wants_memory(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    [
        "out of memory",
        "outofmemory",
        "memory allocation",
        "out_of_memory",
    ]
    .iter()
    .any(|words| reason.contains(words))
}

/// Adds μ (w − w₀) to the gradients: those of the proximal term μ/2 |w − w₀|² (FedProx, Li et al.
/// 2020, arXiv:1812.06127). `base` is w₀.
pub(super) fn pull(
    network: &Network,
    grads: GradientsParams,
    proximal: f64,
    base: &Shift,
) -> GradientsParams {
    let mut visitor = Pull {
        path: Path::default(),
        old: grads,
        new: GradientsParams::new(),
        proximal,
        base,
    };
    network.visit(&mut visitor);
    visitor.new
}

struct Pull<'a> {
    path: Path,
    old: GradientsParams,
    new: GradientsParams,
    proximal: f64,
    base: &'a Shift,
}

impl ModuleVisitor for Pull<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.old.remove::<D>(param.id) else {
            return;
        };
        let grad = match self.base.get(&self.path.name()) {
            Some(base) => {
                let value = param.val().inner();
                let base = base.clone().reshape(value.shape());
                grad + (value - base) * self.proximal
            }
            None => grad,
        };
        self.new.register(param.id, grad);
    }
}

/// Scales the gradients down to a norm of at most `norm_max` over all tensors together (Pascanu et
/// al. 2013, arXiv:1211.5063). Returns the norm before. Gradients that are not finite stay so.
///
/// # Errors
/// [`ModelError::Compute`] if the device fails.
pub(super) fn clip(
    network: &Network,
    grads: GradientsParams,
    norm_max: f64,
) -> Result<(f64, GradientsParams), ModelError> {
    let norm = norm(network, &grads)?;
    if norm <= norm_max {
        return Ok((norm, grads));
    }
    Ok((norm, scaled(network, grads, norm_max / norm)))
}

/// The norm over all tensors together.
fn norm(network: &Network, grads: &GradientsParams) -> Result<f64, ModelError> {
    let mut squares = Squares {
        grads,
        sums: Vec::new(),
    };
    network.visit(&mut squares);
    if squares.sums.is_empty() {
        return Ok(0.0);
    }
    let sums = Tensor::cat(squares.sums, 0).try_into_vec_as::<f32>();
    let sums = sums.map_err(ModelError::compute)?;
    Ok(sums.iter().map(|&sum| f64::from(sum)).sum::<f64>().sqrt())
}

fn scaled(network: &Network, grads: GradientsParams, factor: f64) -> GradientsParams {
    let mut scaled = Scaled {
        old: grads,
        new: GradientsParams::new(),
        factor,
    };
    network.visit(&mut scaled);
    scaled.new
}

fn scaled_loss(loss: &Tensor<1>, scale: LossScale) -> Tensor<1> {
    if scale.moves() {
        loss.clone() * scale.factor()
    } else {
        loss.clone()
    }
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.square().sum());
        }
    }
}

struct Scaled {
    old: GradientsParams,
    new: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scaled {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.old.remove::<D>(param.id) {
            self.new.register(param.id, grad * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_about_memory_are_told_from_others() {
        assert!(wants_memory("CUDA_ERROR_OUT_OF_MEMORY"));
        assert!(wants_memory("wgpu: Out of Memory"));
        assert!(!wants_memory("index out of bounds"));
    }
}
