//! Models in the layout that Hugging Face's tools read: the whole model, or the adapter alone as
//! PEFT has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::{Value, json};

use crate::base::{CONFIG, TOKENIZER, refused};
use crate::error::ModelError;
use crate::layers::{Naming, transposed};
use crate::model::Model;
use crate::parameters::Parameters;
use crate::registry::ModelConfig;

mod card;

pub use card::Card;

/// Writes the whole model with these parameters into `folder`, which is made if need be: adapters
/// are merged into their weights, and everything is in 32-bit floating point.
///
/// `transformers` loads language models with `AutoModelForCausalLM`, encoders with `AutoModel`; an
/// encoder's head lies beside it in `classifier.safetensors`. Models of images and interactions
/// are exported as they are. Costs twice the model's size in memory.
///
/// # Errors
/// [`ModelError::Parameters`] if they are not those of the model; [`ModelError::Config`] for a
/// model that was opened without its base; [`ModelError::File`] if a file cannot be written.
pub fn whole(
    model: &Model,
    parameters: &Parameters,
    card: &Card,
    folder: &Path,
) -> Result<(), ModelError> {
    let mut tensors = collected(model, parameters)?;
    make(folder)?;
    if let ModelConfig::Bert(_) = model.config() {
        let head = split_off(&mut tensors, "classifier.");
        write_tensors(&folder.join(HEAD), &head)?;
    }
    write_tensors(&folder.join(crate::base::SINGLE), &tensors)?;
    write_json(&folder.join(CONFIG), &config_of(model))?;
    write_tokenizer(model, folder)?;
    write(&folder.join(README), card.whole(model).as_bytes())
}

/// Writes the adapter alone into `folder` as PEFT has it. `base` is what PEFT loads the base by: a
/// folder, or a name on the hub.
///
/// # Errors
/// As [`whole`]; [`ModelError::Config`] if the model has no adapter.
pub fn adapter(
    model: &Model,
    parameters: &Parameters,
    base: &str,
    card: &Card,
    folder: &Path,
) -> Result<(), ModelError> {
    let (Some(adapter), Some(naming)) = (model.adapter(), model.config().naming()) else {
        return Err(ModelError::Config {
            field: "adapter",
            got: "none".into(),
            allowed: "a model of which an adapter is trained",
        });
    };
    crate::parameters::check_layout(parameters.layout(), model.layout())?;
    make(folder)?;
    let (mut tensors, mut head) = (Tensors::new(), Tensors::new());
    for (spec, values) in parameters.tensors() {
        let theirs = |ending: &str| {
            let path = spec.name.strip_suffix(ending)?;
            let name = (naming.to_hugging_face)(path);
            Some(format!("base_model.model.{}{name}", naming.class_prefix))
        };
        let named = theirs(".lora_a")
            .map(|name| format!("{name}.lora_A.weight"))
            .or_else(|| theirs(".lora_b").map(|name| format!("{name}.lora_B.weight")));
        match (named, spec.shape.as_slice()) {
            (Some(name), &[inputs, outputs]) => {
                let values = transposed(values, inputs, outputs);
                tensors.insert(name, (vec![outputs, inputs], values));
            }
            (_, &[inputs, outputs]) => {
                let values = transposed(values, inputs, outputs);
                head.insert(spec.name.clone(), (vec![outputs, inputs], values));
            }
            (_, shape) => {
                head.insert(spec.name.clone(), (shape.to_vec(), values.to_vec()));
            }
        }
    }
    write_tensors(&folder.join("adapter_model.safetensors"), &tensors)?;
    if !head.is_empty() {
        write_tensors(&folder.join(HEAD), &head)?;
    }
    let targets: Vec<&str> = if adapter.targets.is_empty() {
        naming.targets.to_vec()
    } else {
        adapter.targets.iter().map(String::as_str).collect()
    };
    let task = match model.config() {
        ModelConfig::Bert(_) => "FEATURE_EXTRACTION",
        _ => "CAUSAL_LM",
    };
    let config = json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": !naming.outputs_first,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
    });
    write_json(&folder.join("adapter_config.json"), &config)?;
    write_tokenizer(model, folder)?;
    write(&folder.join(README), card.adapter(model, base).as_bytes())
}

/// Shapes, outermost first, and values by Hugging Face's names.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Takes a module's weights under the names of its architecture.
pub(crate) struct Collector {
    naming: Naming,
    tensors: Tensors,
    error: Option<ModelError>,
}

impl Collector {
    /// A weight whose first dimension comes first in Hugging Face's layout, too.
    pub(crate) fn plain<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) {
        let shape = tensor.dims().to_vec();
        self.put(path, shape, tensor);
    }

    /// A dense layer's weight of `[inputs, outputs]`.
    pub(crate) fn dense(&mut self, path: &str, tensor: Tensor<2>) {
        let [inputs, outputs] = tensor.dims();
        if self.naming.outputs_first {
            self.put(path, vec![outputs, inputs], tensor.transpose());
        } else {
            self.put(path, vec![inputs, outputs], tensor);
        }
    }

    fn put<const D: usize>(&mut self, path: &str, shape: Vec<usize>, tensor: Tensor<D>) {
        let name = (self.naming.to_hugging_face)(path);
        // A head stands beside the architecture's own tensors.
        let prefix = if path.starts_with("classifier") {
            ""
        } else {
            self.naming.class_prefix
        };
        match tensor.try_into_vec_as::<f32>() {
            Ok(values) => {
                self.tensors
                    .insert(format!("{prefix}{name}"), (shape, values));
            }
            Err(error) => self.error = Some(ModelError::Compute(error.to_string())),
        }
    }
}

fn collected(model: &Model, parameters: &Parameters) -> Result<Tensors, ModelError> {
    let Some(naming) = model.config().naming() else {
        crate::parameters::check_layout(parameters.layout(), model.layout())?;
        let tensors = parameters.tensors();
        let own = |(spec, values): (&crate::TensorSpec, &[f32])| {
            (spec.name.clone(), (spec.shape.clone(), values.to_vec()))
        };
        return Ok(tensors.map(own).collect());
    };
    let device = Device::flex();
    let network = model.load(&model.frame(&device)?, parameters, &device)?;
    let mut collector = Collector {
        naming,
        tensors: BTreeMap::new(),
        error: None,
    };
    network.collect(&mut collector);
    match collector.error {
        None => Ok(collector.tensors),
        Some(error) => Err(error),
    }
}

fn split_off(tensors: &mut Tensors, prefix: &str) -> Tensors {
    let names: Vec<String> = tensors
        .keys()
        .filter(|name| name.starts_with(prefix))
        .cloned()
        .collect();
    names
        .into_iter()
        .filter_map(|name| tensors.remove_entry(&name))
        .collect()
}

/// The base's own settings, where there is one: they may say more than the model needs.
fn config_of(model: &Model) -> Value {
    let mut config = match (model.config(), model.base()) {
        (ModelConfig::Bert(config), _) => config.to_hugging_face(),
        (_, Some(base)) => base.config().clone(),
        (ModelConfig::Llama(config), None) => config.to_hugging_face(),
        (ModelConfig::Transformer(config), None) => config.to_hugging_face(),
        (other, None) => {
            let spec = other.to_spec();
            json!({ "convoke_model": spec.kind, "settings": spec.config })
        }
    };
    if let Some(config) = config
        .as_object_mut()
        .filter(|_| model.tokenizer().is_some())
    {
        config.remove("quantization_config");
        config.remove("dtype");
        config.insert("torch_dtype".into(), json!("float32"));
    }
    config
}

fn write_tokenizer(model: &Model, folder: &Path) -> Result<(), ModelError> {
    let Some(base) = model.base() else {
        return Ok(());
    };
    let path = folder.join(TOKENIZER);
    let text = base
        .tokenizer()?
        .to_string(false)
        .map_err(|error| refused(&path, error))?;
    write(&path, text.as_bytes())?;
    write_json(
        &folder.join("tokenizer_config.json"),
        &base.tokenizer_config()?,
    )
}

fn write_tensors(path: &Path, tensors: &Tensors) -> Result<(), ModelError> {
    let views = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let bytes = bytemuck::cast_slice(values);
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refused(path, error))?;
    // What transformers wants to see before it reads.
    let metadata = std::iter::once(("format".to_owned(), "pt".to_owned())).collect();
    serialize_to_file(views, Some(metadata), path).map_err(|error| refused(path, error))
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    let text = format!("{value:#}\n");
    write(path, text.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    fs::write(path, bytes).map_err(|source| ModelError::File {
        path: path.to_owned(),
        source,
    })
}

fn make(folder: &Path) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(|source| ModelError::File {
        path: folder.to_owned(),
        source,
    })
}

/// The model card.
const README: &str = "README.md";
/// An encoder's head.
const HEAD: &str = "classifier.safetensors";

#[cfg(test)]
mod tests;
