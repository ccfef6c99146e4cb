//! Training in other number formats than f32.
#![allow(clippy::unwrap_used)]

use super::tests::{config, model, stripes};
use super::*;
use crate::device::{DeviceChoice, Precision};
use crate::registry::ModelKind;

fn trained(kind: ModelKind, precision: Precision, shrink: f32) -> Trained {
    let device = DeviceChoice::Cpu.open().unwrap();
    let device = device.with_precision(Some(precision)).unwrap();
    let model = model(kind);
    let mut base = model.initial(1).unwrap();
    base.values_mut()
        .iter_mut()
        .for_each(|value| *value *= shrink);
    train(&model, &config(), &base, &stripes(40), &device, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

#[test]
fn narrow_products_train_to_nearly_the_same() {
    for kind in [ModelKind::Cnn, ModelKind::Mlp] {
        let exact = trained(kind, Precision::F32, 1.0);
        for precision in [Precision::Bf16, Precision::F16] {
            let narrow = trained(kind, precision, 1.0);
            assert_ne!(narrow.delta, exact.delta);
            let cosine = narrow.delta.cosine(&exact.delta).unwrap();
            assert!(cosine > 0.99, "{kind} {precision}: {cosine}");
        }
    }
}

/// At a thousandth of the weights the gradients of the first layer are below what f16 can hold.
#[test]
fn small_gradients_do_not_vanish_in_f16() {
    let exact = trained(ModelKind::Mlp, Precision::F32, 1e-3);
    let narrow = trained(ModelKind::Mlp, Precision::F16, 1e-3);
    let cosine = narrow.delta.cosine(&exact.delta).unwrap();
    assert!(cosine > 0.99, "{cosine}");
}
