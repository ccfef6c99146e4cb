//! `convoke devices`: what there is to compute on.

use convoke_models::{Precision, devices};
use serde_json::json;

use crate::device::free_of_total;
use crate::output::{self, Format};

/// Prints every device, after a first computation on each.
pub(crate) fn run(format: Format) -> anyhow::Result<()> {
    let all = devices();
    let value = json!({ "devices": all });
    format.print(&value, || {
        let mut table = output::table(["device", "what it is", "memory free", "formats", "state"]);
        for device in &all {
            let memory = device.memory.as_ref().map(free_of_total);
            let formats: Vec<_> = device
                .precisions
                .iter()
                .map(|p| Precision::name(*p))
                .collect();
            let state = match &device.unusable {
                Some(reason) => reason.as_str(),
                None if device.emulated => "usable, but emulated in software: slow",
                None => "usable",
            };
            table.add_row([
                device.name.as_str(),
                &device.title,
                &memory.unwrap_or_default(),
                &formats.join(", "),
                state,
            ]);
        }
        table.to_string()
    })
}
