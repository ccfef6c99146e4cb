use burn::nn::{Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, ModuleOptimizer, SgdConfig};

use super::*;

fn network() -> Linear {
    let device = Device::flex().autodiff();
    let values = |len: usize, shift: f32| (0..len).map(move |i| (i as f32 * 0.37 + shift).sin());
    let weight = TensorData::new(values(70, 0.0).collect::<Vec<f32>>(), [10, 7]);
    let bias = TensorData::new(values(7, 1.0).collect::<Vec<f32>>(), [7]);
    let mut network = LinearConfig::new(10, 7).init(&device);
    network.weight = Param::initialized(
        network.weight.id,
        Tensor::from_data(weight, &device).require_grad(),
    );
    let id = network.bias.as_ref().unwrap().id;
    let bias = Tensor::from_data(bias, &device).require_grad();
    network.bias = Some(Param::initialized(id, bias));
    network
}

fn gradients(network: &Linear, step: usize) -> GradientsParams {
    let device = Device::flex().autodiff();
    let x: Vec<f32> = (0..30).map(|i| ((i + 31 * step) as f32).cos()).collect();
    let x = Tensor::<2>::from_data(TensorData::new(x, [3, 10]), &device);
    let loss = network.forward(x).square().mean();
    GradientsParams::from_grads(loss.backward(), network)
}

fn values(network: &Linear) -> Vec<f32> {
    let mut values = network.weight.val().try_into_vec_as::<f32>().unwrap();
    let bias = network.bias.as_ref().unwrap().val();
    values.extend(bias.try_into_vec_as::<f32>().unwrap());
    values
}

fn assert_near(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 2e-6, "{got} {expected}");
    }
}

fn rules() -> Vec<(Rule, ModuleOptimizer)> {
    let sgd = |momentum: f64, decay: f32| {
        let config = MomentumConfig::new().with_momentum(momentum);
        SgdConfig::new()
            .with_momentum((momentum > 0.0).then(|| config.with_dampening(0.0)))
            .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay)))
            .init()
    };
    let rule = |momentum, weight_decay| Rule::Sgd {
        momentum,
        weight_decay,
    };
    let adamw = |weight_decay| AdamWConfig::new().with_weight_decay(weight_decay).init();
    vec![
        (rule(0.0, 0.0), sgd(0.0, 0.0)),
        (rule(0.9, 0.0), sgd(0.9, 0.0)),
        (rule(0.5, 0.1), sgd(0.5, 0.1)),
        (Rule::AdamW { weight_decay: 0.0 }, adamw(0.0)),
        (Rule::AdamW { weight_decay: 0.1 }, adamw(0.1)),
    ]
}

#[test]
fn steps_are_those_of_burns_optimizers() {
    for (rule, mut theirs) in rules() {
        let mut ours = Optimizer::new(rule, None);
        let (mut a, mut b) = (network(), network());
        for step in 0..5 {
            let (of_a, of_b) = (gradients(&a, step), gradients(&b, step));
            a = ours.step(a, of_a, 0.05);
            b = theirs.step(0.05, b, of_b);
            assert_near(&values(&a), &values(&b));
        }
        assert_ne!(values(&a), values(&network()), "{rule:?}");
    }
}

#[test]
fn the_composed_step_is_the_fused_one() {
    for (rule, _) in rules() {
        let device = Device::flex();
        let tensor = |shift: f32| {
            let values = (0..33)
                .map(|i| (i as f32 + shift).sin())
                .collect::<Vec<_>>();
            Tensor::<2>::from_data(TensorData::new(values, [3, 11]), &device)
        };
        let empty = State {
            first: None,
            second: None,
            steps: 0,
        };
        let (mut a, mut b) = (tensor(0.0), tensor(0.0));
        let (mut of_a, mut of_b) = (empty.clone(), empty);
        for steps in 1..4 {
            let update = Update::new(rule, 0.1, 0.7, steps);
            let gradient = tensor(steps as f32);
            a = on_cpu(update, a, gradient.clone(), &mut of_a);
            b = composed(update, b, gradient, &mut of_b);
            let [a, b] = [&a, &b].map(|x| x.clone().try_into_vec_as::<f32>().unwrap());
            assert_near(&a, &b);
        }
    }
}

#[test]
fn all_gradients_are_clipped_together() {
    let rule = Rule::Sgd {
        momentum: 0.0,
        weight_decay: 0.0,
    };
    let moved = |norm_max| {
        let start = network();
        let gradients = gradients(&start, 0);
        let end = Optimizer::new(rule, norm_max).step(start, gradients, 1.0);
        let moves = values(&end).into_iter().zip(values(&network()));
        moves.map(|(end, start)| end - start).collect::<Vec<f32>>()
    };
    let norm = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>().sqrt();
    let free = moved(None);
    let clipped = moved(Some(0.01));
    assert!(norm(&free) > 0.1, "{}", norm(&free));
    assert!((norm(&clipped) - 0.01).abs() < 1e-5);
    let scaled: Vec<f32> = free.iter().map(|v| v * 0.01 / norm(&free)).collect();
    assert_near(&clipped, &scaled);
    assert_eq!(moved(Some(1e6)), free);
}

#[test]
fn parameters_are_updated_where_they_lie() {
    let mut optimizer = Optimizer::new(Rule::AdamW { weight_decay: 0.0 }, None);
    let start = network();
    let gradients = gradients(&start, 0);
    let place = |network: &Linear| {
        let weight = network.weight.val().inner();
        weight
            .try_into_primitive::<Flex>()
            .unwrap()
            .bytes()
            .as_ptr() as usize
    };
    let before = place(&start);
    let end = optimizer.step(start, gradients, 0.1);
    assert_eq!(place(&end), before);
}

#[test]
fn a_restored_optimizer_goes_on_as_if_nothing_had_happened() {
    for (rule, _) in rules() {
        let mut optimizer = Optimizer::new(rule, None);
        let mut here = network();
        for step in 0..3 {
            let gradients = gradients(&here, step);
            here = optimizer.step(here, gradients, 0.05);
        }
        let state = optimizer.state().unwrap();
        let mut restored = Optimizer::new(rule, None);
        let layout = crate::flatten::layout_of(&here);
        restored.restore(&state, &layout, &Device::flex()).unwrap();
        let there = here.clone();
        let (of_here, of_there) = (gradients(&here, 3), gradients(&there, 3));
        let here = optimizer.step(here, of_here, 0.05);
        let there = restored.step(there, of_there, 0.05);
        assert_eq!(values(&here), values(&there), "{rule:?}");
    }
}

#[test]
fn states_of_something_else_are_refused() {
    let layout = crate::flatten::layout_of(&network());
    let refused = |name: &str, len: usize| {
        let spec = TensorSpec {
            name: name.into(),
            shape: vec![len],
        };
        let state = Parameters::new(vec![spec], vec![0.0; len]).unwrap();
        let mut optimizer = Optimizer::new(Rule::AdamW { weight_decay: 0.0 }, None);
        optimizer.restore(&state, &layout, &Device::flex()).is_err()
    };
    assert!(!refused("first.bias", 7) && !refused("steps.weight", 1));
    assert!(refused("first.bias", 8) && refused("third.bias", 7));
    assert!(refused("first.other", 7) && refused("bias", 7) && refused("steps.bias", 2));
}
