//! The model card: what a model is, and how it is loaded.

use std::fmt::Write as _;

use crate::model::Model;
use crate::registry::ModelConfig;

/// What a model card says beyond what the model itself tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The model's name.
    pub title: String,
    /// What it was trained for; may be empty.
    pub description: String,
    /// Facts, such as the task, its rounds and its metrics, each with its name.
    pub facts: Vec<(String, String)>,
}

impl Card {
    pub(super) fn whole(&self, model: &Model) -> String {
        let library = if model.tokenizer().is_some() {
            "transformers"
        } else {
            "convoke"
        };
        let mut card = self.head(library, None);
        self.body(model, &mut card);
        card.push_str("## Use\n\n");
        card.push_str(match model.config() {
            ModelConfig::Llama(_) | ModelConfig::Transformer(_) => CAUSAL,
            ModelConfig::Bert(_) => ENCODER,
            _ => OWN,
        });
        card
    }

    pub(super) fn adapter(&self, model: &Model, base: &str) -> String {
        let mut card = self.head("peft", Some(base));
        self.body(model, &mut card);
        let class = match model.config() {
            ModelConfig::Bert(_) => "AutoModel",
            _ => "AutoModelForCausalLM",
        };
        let _ = write!(
            card,
            "## Use\n\n```python\nfrom peft import PeftModel\nfrom transformers import {class}\n\n\
             model = {class}.from_pretrained({base:?})\n\
             model = PeftModel.from_pretrained(model, \".\")\n```\n"
        );
        if let ModelConfig::Bert(_) = model.config() {
            card.push_str(HEAD);
        }
        card
    }

    fn head(&self, library: &str, base: Option<&str>) -> String {
        let mut card = String::from("---\n");
        if let Some(base) = base {
            let _ = writeln!(card, "base_model: {}", quoted(base));
        }
        let _ = writeln!(card, "library_name: {library}");
        card.push_str("tags:\n- federated-learning\n- convoke\n---\n\n");
        card
    }

    fn body(&self, model: &Model, card: &mut String) {
        let _ = writeln!(card, "# {}\n", line(&self.title));
        if !self.description.is_empty() {
            let _ = writeln!(card, "{}\n", line(&self.description));
        }
        card.push_str(
            "Trained by a federation with Convoke: the data stayed with who has them.\n\n",
        );
        card.push_str("| | |\n|---|---|\n");
        let _ = writeln!(card, "| model | {} |", model.config().kind());
        let values: usize = model.layout().iter().map(crate::TensorSpec::len).sum();
        let _ = writeln!(card, "| trained parameters | {values} |");
        if let Some(adapter) = model.adapter() {
            let _ = writeln!(
                card,
                "| adapter | LoRA of rank {}, alpha {} |",
                adapter.rank, adapter.alpha
            );
        }
        for (name, value) in &self.facts {
            let _ = writeln!(card, "| {} | {} |", line(name), line(value));
        }
        card.push('\n');
    }
}

/// One line of a table, whatever a task's creator wrote.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}

/// A text in YAML, which takes JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const CAUSAL: &str = "```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(\".\")
```
";

const ENCODER: &str = "```python
from transformers import AutoModel

model = AutoModel.from_pretrained(\".\")
```
The text's vector is the mean of the positions that are no padding.
`classifier.safetensors` has the head: logits are `vector @ weight.T + bias`.
";

const HEAD: &str = "The text's vector is the mean of the positions that are no padding.
`classifier.safetensors` has the head: logits are `vector @ weight.T + bias`.
";

const OWN: &str =
    "`model.safetensors` is a checkpoint of Convoke: `convoke evaluate model.safetensors`.
";
