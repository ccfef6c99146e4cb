//! How a fused operation meets burn: inputs as slices, outputs as tensors, gradients in the graph.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::autocast;
use crate::device::Precision;

/// An operation on f32 tensors of the CPU with a backward pass of its own.
pub(crate) trait Fused<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs.
    type Saved: Clone + Debug + Send + 'static;

    /// Whether gradients are to come with their values one after the other.
    const CONTIGUOUS: bool = true;

    /// The output; and what is to be saved, which may be less if there will be no backward pass.
    fn forward(&self, inputs: [FlexTensor; N], tracked: [bool; N]) -> (FlexTensor, Self::Saved);

    /// The gradients of those inputs that are wanted.
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// A tensor on its way into a fused operation.
pub(crate) enum Input {
    Plain(FlexTensor),
    Tracked(FloatTensor<Autodiff<Flex>>),
}

impl Input {
    /// The tensor, which must be [`supported`].
    pub(crate) fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        match tensor.clone().try_into_primitive::<Autodiff<Flex>>() {
            Ok(tensor) => Self::Tracked(tensor),
            Err(_) => Self::Plain(
                tensor
                    .try_into_primitive::<Flex>()
                    .expect("the caller has checked that the tensor is supported"),
            ),
        }
    }
}

/// Whether fused operations take the tensor: one of f32 on the CPU, with products in f32.
pub(crate) fn supported<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32
        && autocast::current() == Precision::F32
        && (tensor
            .clone()
            .try_into_primitive::<Autodiff<Flex>>()
            .is_ok()
            || tensor.clone().try_into_primitive::<Flex>().is_ok())
}

/// Runs the operation on inputs of the CPU.
pub(crate) fn apply<F: Fused<N>, const N: usize, const D: usize>(
    operation: F,
    inputs: [Input; N],
) -> Tensor<D> {
    if inputs.iter().all(|input| matches!(input, Input::Plain(_))) {
        let inputs = inputs.map(|input| match input {
            Input::Plain(tensor) => tensor,
            Input::Tracked(tensor) => tensor.into_primitive(),
        });
        let (output, _) = operation.forward(inputs, [false; N]);
        return Tensor::from_primitive::<Flex>(output);
    }
    let inputs = inputs.map(|input| match input {
        Input::Tracked(tensor) => tensor,
        Input::Plain(tensor) => FloatTensor::<Autodiff<Flex>>::new(tensor),
    });
    let tracked = inputs
        .each_ref()
        .map(FloatTensor::<Autodiff<Flex>>::is_tracked);
    let mut nodes = Vec::with_capacity(N);
    let inputs = inputs.map(|input| {
        let (tensor, node) = input.into_parts();
        nodes.push(node);
        tensor
    });
    let Ok(nodes) = nodes.try_into() else {
        unreachable!("one node for each input");
    };
    let step = Step::<F>(PhantomData);
    let prepared = step.prepare::<NoCheckpointing>(nodes).compute_bound();
    let (output, saved) = operation.forward(inputs, tracked);
    let output = match prepared.stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((operation, saved), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

struct Step<F>(PhantomData<fn() -> F>);

impl<F> Debug for Step<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<F>())
    }
}

impl<F: Fused<N>, const N: usize> Backward<Flex, N> for Step<F> {
    type State = (F, F::Saved);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let mut gradient = gradients.consume::<Flex>(&ops.node);
        if F::CONTIGUOUS {
            gradient = contiguous(gradient);
        }
        let (operation, saved) = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = operation.backward(saved, gradient, wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<Flex>(parent.id, result);
            }
        }
    }
}

/// The tensor with its values one after the other.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// Its values.
///
/// # Panics
/// If it is not contiguous, or not of f32.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice::<f32>()
        .expect("fused operations take contiguous tensors of f32")
}

/// The values of a contiguous tensor, to be overwritten: no copy if nobody else holds them.
pub(crate) fn into_values(tensor: FlexTensor) -> Vec<f32> {
    tensor
        .into_data()
        .try_into_vec()
        .expect("fused operations take tensors of f32")
}

/// A tensor of these values.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// Its shape.
///
/// # Panics
/// If it has another number of dimensions.
pub(crate) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}
