//! Language models and encoders through the public interface: from a base or from nothing, by
//! adapters or as a whole.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoke_models::adapter::{AdapterConfig, FrozenPrecision};
use convoke_models::arch::bert::BertConfig;
use convoke_models::arch::transformer::TransformerConfig;
use convoke_models::base::{Base, Cache, Manifest};
use convoke_models::{
    Dataset, DeviceChoice, Evaluator, Model, ModelConfig, Part, TensorSpec, TrainConfig, train,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn of_base(name: &str, adapter: Option<AdapterConfig>) -> Model {
    let base = Base::open(&fixture(name)).unwrap();
    let config = match ModelConfig::of_base(&base, 2).unwrap() {
        ModelConfig::Llama(config) => {
            ModelConfig::Llama(convoke_models::arch::llama::LlamaConfig {
                sequence_len: 16,
                ..config
            })
        }
        other => other,
    };
    Model::with_base(config, Arc::new(base), adapter).unwrap()
}

fn adapter(precision: FrozenPrecision) -> AdapterConfig {
    AdapterConfig {
        rank: 4,
        alpha: 8.0,
        targets: Vec::new(),
        precision,
    }
}

/// The loss on the training data before and after a few steps.
fn learns(model: &Model, data: &Path) -> (f64, f64) {
    let data = Dataset::open(data, Part::Train, model).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let evaluator = Evaluator::new(model, &device, &data).unwrap();
    let base = model.initial(1).unwrap();
    let settings = "name = \"x\"\n[model]\nkind = \"cnn\"\n[training]\nlocal_epochs = 8\n\
        batch_size = 4\nclient_lr = 0.01\nclient_optimizer = \"adamw\"\n";
    let spec = TaskSpec::parse(settings).unwrap();
    let config = TrainConfig::of_task(&spec, RoundId(1)).unwrap();
    let trained = train(model, &config, &base, &data, &device, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(trained.delta.layout(), model.layout());
    let mut after = base.clone();
    after.add_scaled(&trained.delta, 1.0).unwrap();
    let before = evaluator.evaluate(&base).unwrap();
    (before.loss, evaluator.evaluate(&after).unwrap().loss)
}

fn text(folder: &Path) {
    let line = "Who's there? Nay, answer me: stand and unfold yourself. Long live the king!\n";
    std::fs::write(folder.join("train.txt"), line.repeat(8)).unwrap();
}

#[test]
fn a_decoder_learns_bytes_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    text(folder.path());
    let config = TransformerConfig {
        width: 32,
        layers: 1,
        sequence_len: 32,
        ..TransformerConfig::default()
    };
    let model = Model::new(ModelConfig::Transformer(config)).unwrap();
    let (before, after) = learns(&model, folder.path());
    assert!((before - (257_f64).ln()).abs() < 0.2, "{before}");
    assert!(after < 0.8 * before, "{before} to {after}");
}

#[test]
fn a_base_is_tuned_by_adapters_and_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    text(folder.path());
    let models = [
        of_base("llama", Some(adapter(FrozenPrecision::F32))),
        of_base("gguf", Some(adapter(FrozenPrecision::Q8_0))),
        of_base("gguf", None),
    ];
    for model in models {
        let (before, after) = learns(&model, folder.path());
        assert!(after < 0.98 * before, "{before} to {after}");
    }
}

#[test]
fn an_adapter_travels_without_its_base() {
    let model = of_base("llama", Some(adapter(FrozenPrecision::F32)));
    let values: usize = model.layout().iter().map(TensorSpec::len).sum();
    // Two layers, queries 32 to 32 and values 32 to 16, rank 4.
    assert_eq!(values, 2 * (4 * 64 + 4 * 48));
    assert!(
        model
            .layout()
            .iter()
            .all(|spec| spec.name.contains(".lora_"))
    );
}

#[test]
fn an_encoder_learns_classes() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..32)
        .map(|i| {
            let (word, label) = [("good", 0), ("bad", 1)][i % 2];
            format!("{{\"text\": \"a {word} day\", \"label\": {label}}}\n")
        })
        .collect();
    std::fs::write(folder.path().join("train.jsonl"), lines).unwrap();
    let config = BertConfig {
        hidden_size: 32,
        num_hidden_layers: 1,
        sequence_len: 16,
        ..BertConfig::default()
    };
    let model = Model::new(ModelConfig::Bert(config)).unwrap();
    let (before, after) = learns(&model, folder.path());
    assert!(after < 0.5 * before, "{before} to {after}");
}

fn task(hash: &str, source: &Path) -> TaskSpec {
    let text = format!(
        r#"
        name = "folio"
        [model]
        kind = "llama"
        vocab_size = 320
        hidden_size = 32
        intermediate_size = 64
        num_hidden_layers = 2
        num_attention_heads = 4
        num_key_value_heads = 2
        rope_theta = 5000.0
        max_position_embeddings = 64
        sequence_len = 16
        [base]
        hash = "{hash}"
        sources = ["/nowhere", "{}"]
        [adapter]
        rank = 2
        "#,
        source.display()
    );
    TaskSpec::parse(&text).unwrap()
}

#[test]
fn a_task_is_opened_with_its_base_or_for_its_layout_alone() {
    let cache = tempfile::tempdir().unwrap();
    let cache = Cache::new(cache.path());
    // Without what only the tests read.
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture("llama").join(name), folder.path().join(name)).unwrap();
    }
    let manifest = Manifest::of_folder(folder.path()).unwrap();
    let spec = task(&manifest.id().to_string(), folder.path());
    let layout = Model::of_task(&spec).unwrap();
    assert!(layout.initial(1).is_err());
    let model = Model::open(&spec, &cache, &mut |_, _| ()).unwrap();
    assert_eq!(model.layout(), layout.layout());
    assert_eq!(model.initial(1).unwrap(), model.initial(1).unwrap());
    // One changed byte is another base.
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let error = Model::open(&spec, &cache, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("wanted is"), "{error}");
}

#[test]
fn a_model_that_does_not_fit_its_base_is_refused() {
    let base = Arc::new(Base::open(&fixture("llama")).unwrap());
    let ModelConfig::Llama(config) = ModelConfig::of_base(&base, 2).unwrap() else {
        panic!("it is one of the Llama family");
    };
    let narrow = convoke_models::arch::llama::LlamaConfig {
        vocab_size: 100,
        ..config
    };
    let error = Model::with_base(ModelConfig::Llama(narrow), base.clone(), None).unwrap_err();
    assert!(error.to_string().contains("vocab_size"), "{error}");
    let cnn = convoke_models::ModelKind::Cnn.defaults();
    assert!(Model::with_base(cnn, base, None).is_err());
}
