//! A task's model on this machine: its base is fetched, checked and pinned.

use anyhow::Context as _;
use convoke_models::Model;
use convoke_models::base::{BaseFile, Cache};
use convoke_protocol::task::TaskSpec;

use crate::failure::HintExt as _;
use crate::output::Format;
use crate::progress::Progress;

/// Opens a task's model with its base, which is fetched first if need be. A base without a hash is
/// taken as it comes, and its hash noted in the task: on chain it must be there.
pub(crate) fn open(spec: &mut TaskSpec, format: Format) -> anyhow::Result<Model> {
    let cache = Cache::of_user();
    let shown = Progress::new(format);
    let mut progress = |file: &BaseFile, bytes: u64| {
        let label = format!("fetching {}", file.name);
        shown.step(&label, bytes >> 20, file.bytes >> 20);
    };
    if let Some(base) = &mut spec.base
        && base.hash.is_none()
    {
        let mut last = None;
        for source in &base.sources {
            let found = source
                .parse()
                .and_then(|source| cache.adopt(&source, None, &mut progress));
            match found {
                Ok((manifest, _)) => {
                    base.hash = Some(manifest.id());
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        if let (None, Some(error)) = (base.hash, last) {
            return Err(error)
                .context("no source of the task's base has it")
                .hint("see `sources` in the task's [base]; folders are relative to where you are");
        }
    }
    let model = Model::open(spec, &cache, &mut progress);
    shown.clear();
    model.context("cannot open the task's model")
}
