#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use burn::tensor::{Int, TensorData};

use super::*;
use crate::adapter::{AdapterConfig, FrozenPrecision};
use crate::arch::transformer::TransformerConfig;
use crate::base::Base;
use crate::flatten::flatten;
use crate::layers::Builder;
use crate::network::Network;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn of_base(name: &str, targets: &[&str], precision: Option<FrozenPrecision>) -> Model {
    let base = Base::open(&root().join("tests/fixtures").join(name)).unwrap();
    let config = ModelConfig::of_base(&base, 3).unwrap();
    let adapter = precision.map(|precision| AdapterConfig {
        rank: 3,
        alpha: 5.0,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
        precision,
    });
    Model::with_base(config, Arc::new(base), adapter).unwrap()
}

/// Initial parameters, and something more in every value.
fn moved(model: &Model) -> Parameters {
    let mut parameters = model.initial(1).unwrap();
    for (at, value) in parameters.values_mut().iter_mut().enumerate() {
        *value += 0.1 * (at as f32 * 0.7).sin();
    }
    parameters
}

fn card() -> Card {
    Card {
        title: "A test | with a bar".into(),
        description: "Two\nlines".into(),
        facts: vec![("rounds".into(), "3".into())],
    }
}

/// Ids and what the model makes of them: logits, or an encoder's vectors and logits.
fn outputs(model: &Model, parameters: &Parameters) -> Tensors {
    let device = Device::flex();
    let frame = model.frame(&device).unwrap();
    let network = model.load(&frame, parameters, &device).unwrap();
    let values: Vec<i32> = (0..12).map(|at| (at * 29 + 3) % 90).collect();
    let data = TensorData::new(values.clone(), [2, 6]);
    let ids = Tensor::<2, Int>::from_data(data, &device);
    let mut outputs = Tensors::new();
    let floats = values.iter().map(|&id| id as f32).collect();
    outputs.insert("ids".into(), (vec![2, 6], floats));
    let mut put = |name: &str, tensor: Tensor<2>| {
        let shape = tensor.dims().to_vec();
        outputs.insert(name.into(), (shape, tensor.try_into_vec_as().unwrap()));
    };
    match &network {
        Network::Llama(llama) => put("logits", llama.logits(llama.hidden(ids).flatten(0, 1))),
        Network::Transformer(decoder) => {
            put("logits", decoder.logits(decoder.hidden(ids).flatten(0, 1)));
        }
        Network::Bert(bert) => {
            put("vectors", bert.embeddings(ids.clone(), &[6, 6]));
            put("logits", bert.forward(ids, &[6, 6]));
        }
        _ => panic!("a model that reads text"),
    }
    outputs
}

fn models() -> Vec<(&'static str, Model)> {
    let dense = Some(FrozenPrecision::F32);
    let scratch = TransformerConfig {
        vocabulary: 257,
        width: 32,
        layers: 2,
        sequence_len: 16,
        ..TransformerConfig::default()
    };
    vec![
        ("llama", of_base("llama", &["q_proj", "mlp.up_proj"], dense)),
        ("gguf", of_base("gguf", &[], Some(FrozenPrecision::Q8_0))),
        ("untied", of_base("llama-bf16", &[], None)),
        ("qwen2", of_base("qwen2", &["k_proj"], dense)),
        ("gpt2", of_base("gpt2", &["c_attn", "c_fc"], dense)),
        ("bert", of_base("bert", &["query", "output.dense"], dense)),
        (
            "scratch",
            Model::new(ModelConfig::Transformer(scratch)).unwrap(),
        ),
    ]
}

/// Exports all of [`models`] into a folder: `NAME/whole`, `NAME/adapter`, `NAME/outputs`.
fn export_all(folder: &Path) {
    for (name, model) in models() {
        let folder = folder.join(name);
        let parameters = moved(&model);
        whole(&model, &parameters, &card(), &folder.join("whole")).unwrap();
        if model.adapter().is_some() {
            let base = model.base().unwrap().folder().display().to_string();
            adapter(&model, &parameters, &base, &card(), &folder.join("adapter")).unwrap();
        }
        let outputs = outputs(&model, &parameters);
        write_tensors(&folder.join("outputs.safetensors"), &outputs).unwrap();
    }
}

#[test]
fn what_is_exported_whole_is_read_again_and_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    export_all(folder.path());
    for (name, model) in models() {
        let whole = folder.path().join(name).join("whole");
        let readme = std::fs::read_to_string(whole.join(README)).unwrap();
        assert!(readme.contains("# A test \\| with a bar"), "{readme}");
        assert!(readme.contains("| rounds | 3 |"), "{readme}");
        let expected = outputs(&model, &moved(&model));
        let base = Base::open(&whole).unwrap();
        let config = ModelConfig::of_base(&base, 3).unwrap();
        let (again, parameters) = if model.base().is_some() {
            let again = Model::with_base(config, Arc::new(base), None).unwrap();
            let parameters = again.initial(1).unwrap();
            (again, parameters)
        } else {
            let builder = Builder::new(&Device::flex()).with_base(Some(&base));
            let network = Network::new(&config, &builder).unwrap();
            let again = Model::new(config).unwrap();
            let parameters = flatten(&network, again.layout()).unwrap();
            (again, parameters)
        };
        let got = outputs(&again, &parameters);
        for (output, (_, expected)) in &expected {
            if name == "bert" && output == "logits" {
                continue;
            }
            for (got, expected) in got[output].1.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-4, "{name} {output}");
            }
        }
    }
}

/// Names a Python with torch, transformers, peft and safetensors.
const PYTHON: &str = "CONVOKE_PYTHON";

#[test]
fn transformers_and_peft_read_exports_and_compute_the_same() {
    let Some(python) = std::env::var_os(PYTHON).map(PathBuf::from) else {
        eprintln!("not run: {PYTHON} names no Python with transformers and peft");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    export_all(folder.path());
    let output = Command::new(python)
        .arg(root().join("tests/python/export.py"))
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    assert_eq!(said.lines().count(), 7, "{said}{complaint}");
}
