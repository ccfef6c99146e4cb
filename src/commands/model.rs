//! `convoke model`: base weights to start from, and models to give away.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use convoke_models::base::{Base, BaseFile, BaseSource, Cache, Manifest};
use convoke_models::export::{self, Card};
use convoke_models::{Model, ModelConfig, ModelKind};
use convoke_protocol::ids::BlobHash;
use convoke_protocol::task::{BaseSpec, TaskSpec};
use serde_json::json;

use crate::commands::evaluate::checkpoint;
use crate::commands::task::TaskFile;
use crate::failure::HintExt as _;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List the models by name, with their settings
    #[command(after_help = "Example:\n  convoke model list --format json")]
    List,
    /// Fetch base weights into the cache, and show what a task file says of them
    #[command(
        after_help = "Examples:\n  convoke model fetch hf:HuggingFaceTB/SmolLM2-135M-Instruct\n  \
                      convoke model fetch ./SmolLM2-135M-Instruct.Q4_1.gguf\n  \
                      convoke model fetch https://example.org/models/smollm2 --hash 0x...\n\n\
                      HF_ENDPOINT and HF_HOME are respected. The cache is CONVOKE_CACHE, or\n\
                      convoke/bases in the user's cache folder."
    )]
    Fetch(FetchArgs),
    /// List what base weights consist of
    #[command(
        after_help = "Example:\n  convoke model inspect ./SmolLM2-135M-Instruct.Q4_1.gguf --tensors"
    )]
    Inspect(InspectArgs),
    /// Write a checkpoint's whole model, adapters merged, as a Hugging Face folder
    #[command(
        after_help = "Example:\n  convoke model merge convoke-train/model.safetensors --task task.toml --out folio-smollm2"
    )]
    Merge(ExportArgs),
    /// Write a checkpoint's adapter alone, as a PEFT folder; the whole model where there is none
    #[command(
        after_help = "Example:\n  convoke model export convoke-train/model.safetensors --task task.toml --out folio-adapter"
    )]
    Export(ExportArgs),
}

/// Arguments of `model fetch`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// `hf:OWNER/NAME[@REVISION]`, an `https://` folder, a folder or a file
    source: BaseSource,
    /// The base that it must be
    #[arg(long, value_name = "HASH")]
    hash: Option<BlobHash>,
    /// Number of classes, of a classifier
    #[arg(long, value_name = "N", default_value_t = 2)]
    classes: usize,
}

/// Arguments of `model inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A folder as Hugging Face lays models out, a folder with a GGUF file, or such a file
    path: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

/// Arguments of `model merge` and `model export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The checkpoint (safetensors)
    checkpoint: PathBuf,
    /// The task file that says what the model is
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// Folder to write into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the model on its card [default: the task's]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What PEFT loads the base by: a name on the hub or a folder [default: the task's first source]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
}

/// Runs a command.
pub(crate) fn run(command: &ModelCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ModelCommand::List => list(format),
        ModelCommand::Fetch(args) => fetch(args, format),
        ModelCommand::Inspect(args) => inspect(args, format),
        ModelCommand::Merge(args) => write(args, true, format),
        ModelCommand::Export(args) => write(args, false, format),
    }
}

fn list(format: Format) -> anyhow::Result<()> {
    let value = json!({
        "models": ModelKind::ALL.map(|kind| json!({
            "kind": kind,
            "summary": kind.summary(),
            "learns_from": kind.takes(),
            "settings": kind.defaults().to_spec().config,
        })),
    });
    format.print(&value, || {
        let mut table = output::table(["kind", "what it is", "settings and their defaults"]);
        for kind in ModelKind::ALL {
            let settings = kind.defaults().to_spec().config;
            let settings: Vec<_> = settings
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect();
            table.add_row([kind.name(), kind.summary(), &settings.join("\n")]);
        }
        table.to_string()
    })
}

/// What a task trains, its base fetched if need be. A base without a hash is taken as it comes:
/// its hash, and those settings of it that the task leaves out, are noted in the task.
pub(crate) fn open(spec: &mut TaskSpec, format: Format) -> anyhow::Result<Model> {
    let progress = Progress::new(format);
    let cache = Cache::of_user();
    let pinned = pin(spec, &cache, &mut shown(&progress));
    progress.clear();
    pinned?;
    let model = Model::open(spec, &cache, &mut shown(&progress));
    progress.clear();
    model
        .context("cannot open the task's model")
        .hint("`convoke model fetch SOURCE` shows what a task file must say of base weights")
}

fn pin(
    spec: &mut TaskSpec,
    cache: &Cache,
    progress: &mut dyn FnMut(&BaseFile, u64),
) -> anyhow::Result<()> {
    let Some(wanted) = spec.base.as_mut().filter(|base| base.hash.is_none()) else {
        return Ok(());
    };
    let mut last = None;
    for source in &wanted.sources {
        let found = source
            .parse()
            .and_then(|source| cache.adopt(&source, None, progress));
        let (manifest, folder) = match found {
            Ok(found) => found,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        wanted.hash = Some(manifest.id());
        let classes = spec.model.config.get("classes");
        let classes = classes.and_then(toml::Value::as_integer).unwrap_or(2);
        let config = ModelConfig::of_base(&Base::open(&folder)?, usize::try_from(classes)?)
            .context("these weights are of no model that can be trained here")?
            .to_spec();
        if config.kind != spec.model.kind {
            bail!(
                "the task's base is a {:?}, its model a {:?}",
                config.kind,
                spec.model.kind
            );
        }
        for (name, value) in config.config {
            spec.model.config.entry(name).or_insert(value);
        }
        return Ok(());
    }
    Err(last.map_or_else(|| anyhow!("the task's base has no source"), Into::into))
        .context("no source of the task's base has it")
        .hint("see `sources` in the task's [base]; folders are relative to where you are")
}

fn shown(progress: &Progress) -> impl FnMut(&BaseFile, u64) {
    |file, bytes| progress.step(&format!("{} kB", file.name), bytes >> 10, file.bytes >> 10)
}

fn fetch(args: &FetchArgs, format: Format) -> anyhow::Result<()> {
    let progress = Progress::new(format);
    let cache = Cache::of_user();
    let fetched = cache.adopt(&args.source, args.hash, &mut shown(&progress));
    progress.clear();
    let (manifest, folder) = fetched?;
    let base = Base::open(&folder)?;
    let config = ModelConfig::of_base(&base, args.classes)
        .context("these weights are of no model that can be trained here")?;
    let toml = tables(&config, &manifest, &args.source)?;
    let value = json!({
        "hash": manifest.id(),
        "bytes": manifest.bytes(),
        "folder": folder,
        "kind": config.kind(),
        "model": config.to_spec(),
    });
    format.print(&value, || {
        format!(
            "{} MB in {}\n\nIn the task file:\n\n{}",
            manifest.bytes() / 1_000_000,
            folder.display(),
            toml.trim_end()
        )
    })
}

/// `[model]` and `[base]` of a task file.
fn tables(
    config: &ModelConfig,
    manifest: &Manifest,
    source: &BaseSource,
) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Tables {
        model: convoke_protocol::task::ModelSpec,
        base: BaseSpec,
    }
    Ok(toml::to_string(&Tables {
        model: config.to_spec(),
        base: BaseSpec {
            hash: Some(manifest.id()),
            sources: vec![source.to_string()],
        },
    })?)
}

fn inspect(args: &InspectArgs, format: Format) -> anyhow::Result<()> {
    let base = Base::open(&args.path)?;
    let tensors: Vec<_> = base.tensors().collect();
    let mut encodings = BTreeMap::<_, (usize, usize)>::new();
    for (_, shape, encoding) in &tensors {
        let entry = encodings.entry(encoding.name()).or_default();
        entry.0 += 1;
        entry.1 += shape.iter().product::<usize>();
    }
    let parameters: usize = encodings.values().map(|entry| entry.1).sum();
    let kind = ModelConfig::of_base(&base, 2).map(|config| config.kind().to_string());
    let tokenizer = base
        .tokenizer()
        .map(|tokenizer| tokenizer.get_vocab_size(true));
    let value = json!({
        "kind": kind.as_ref().ok(),
        "config": base.config(),
        "parameters": parameters,
        "tokens": tokenizer.as_ref().ok(),
        "encodings": encodings.iter().map(|(name, (count, values))| {
            json!({ "encoding": name, "tensors": count, "parameters": values })
        }).collect::<Vec<_>>(),
        "tensors": args.tensors.then(|| tensors.iter().map(|(name, shape, encoding)| {
            json!({ "name": name, "shape": shape, "encoding": encoding.name() })
        }).collect::<Vec<_>>()),
    });
    format.print(&value, || {
        let known = |result: Result<String, String>| result.unwrap_or_else(|reason| reason);
        let mut text = format!(
            "model       {}\ntokenizer   {}\nparameters  {parameters}",
            known(kind.map_err(|error| error.to_string())),
            known(
                tokenizer
                    .map(|tokens| format!("{tokens} tokens"))
                    .map_err(|error| error.to_string())
            ),
        );
        for (name, (count, values)) in &encodings {
            text += &format!("\n  {name:<9} {values} in {count} tensors");
        }
        if args.tensors {
            let mut table = output::table(["tensor", "shape", "values"]);
            for (name, shape, encoding) in &tensors {
                table.add_row([*name, &format!("{shape:?}"), encoding.name()]);
            }
            text += &format!("\n\n{table}");
        }
        text
    })
}

fn write(args: &ExportArgs, merged: bool, format: Format) -> anyhow::Result<()> {
    let mut spec = TaskFile::read(&args.task)?.spec_alone()?;
    let model = open(&mut spec, format)?;
    let parameters = checkpoint(&args.checkpoint, &model)?;
    let card = Card {
        title: args.title.clone().unwrap_or_else(|| spec.name.clone()),
        description: spec.description.clone(),
        facts: vec![("rounds of the task".into(), spec.rounds.to_string())],
    };
    let alone = !merged && model.adapter().is_some();
    if alone {
        let source = spec.base.as_ref().and_then(|base| base.sources.first());
        let base = args
            .base
            .clone()
            .or_else(|| source.map(|source| hub_name(source)));
        export::adapter(
            &model,
            &parameters,
            &base.unwrap_or_default(),
            &card,
            &args.out,
        )?;
    } else {
        export::whole(&model, &parameters, &card, &args.out)?;
    }
    let what = if alone { "adapter" } else { "model" };
    format.print(&json!({ "out": args.out, "what": what }), || {
        format!("the {what} is in {}", args.out.display())
    })
}

/// What Hugging Face's tools call a source.
fn hub_name(source: &str) -> String {
    match source.strip_prefix("hf:") {
        Some(name) => name.split('@').next().unwrap_or(name).to_owned(),
        None => source.to_owned(),
    }
}
