//! The model card: what the model is, how it came to be, what it is good for.

use std::fmt::Write as _;

use convoke_protocol::ids::Role;

use super::plan::Plan;
use super::summary::Results;

/// The card in Markdown.
pub(crate) fn markdown(plan: &Plan, results: &Results) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, plan, results);
    text
}

fn write(text: &mut String, plan: &Plan, results: &Results) -> std::fmt::Result {
    let last = results.last();
    let data = match &plan.data {
        Some(folder) if plan.rehearsal.is_some() => format!("`{}`", folder.display()),
        Some(folder) => format!("the idx files of `{}`", folder.display()),
        None => "a balanced share of Fashion-MNIST (MIT licence, arXiv:1708.07747)".into(),
    };
    writeln!(text, "# {}\n", plan.name)?;
    writeln!(
        text,
        "Trained by {} parties together with Convoke; no party's {} left it.\n",
        plan.trainers, results.noun
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(
        text,
        "| held-out {} | {} on {} {}, {} before |",
        last.title(),
        last.headline(),
        results.held_back,
        results.noun,
        results.measured(0).headline()
    )?;
    writeln!(text, "| held-out loss | {:.4} nats |", last.loss)?;
    writeln!(
        text,
        "| architecture | `{}`, weights in `model.safetensors` (F32) |",
        results.model
    )?;
    writeln!(text, "| BLAKE3 of the file | `{}` |", results.checkpoint)?;
    writeln!(text, "| data | {data} |")?;
    if plan.rehearsal.is_none() {
        writeln!(
            text,
            "| split | Dirichlet({}) over the labels, seed {} |",
            plan.alpha, plan.seed
        )?;
    }
    writeln!(text, "| rounds | {} |", plan.rounds)?;
    writeln!(text, "| aggregation rule | `{}` |", results.rule)?;
    writeln!(
        text,
        "| task | number {} on chain {}; its file is `task.toml` |",
        results
            .board
            .task
            .map(|task| task.to_string())
            .unwrap_or_default(),
        results.board.chain_id
    )?;

    writeln!(
        text,
        "\n## Rounds\n\n| round | {} | loss | kept | refused |\n|---:|---:|---:|---:|---|",
        last.title()
    )?;
    for report in results.board.reports.values() {
        let measured = results.measured(report.round.0);
        let refused: Vec<String> = report
            .refused
            .iter()
            .map(|(address, refusal)| {
                format!(
                    "{} ({}: {refusal})",
                    address.short(),
                    results.persona(*address)
                )
            })
            .collect();
        writeln!(
            text,
            "| {} | {} | {:.4} | {} | {} |",
            report.round,
            measured.headline(),
            measured.loss,
            report.kept.len(),
            refused.join("; ")
        )?;
    }

    writeln!(
        text,
        "\n## Contributors\n\n| who | account | persona | {} | rounds kept | paid | vesting |\n|---|---|---|---:|---:|---:|---:|",
        results.noun
    )?;
    for party in &results.parties {
        let examples = if party.role == Role::Trainer {
            party.examples.to_string()
        } else {
            String::new()
        };
        writeln!(
            text,
            "| {} | `{}` | {} | {examples} | {} | {} | {} |",
            party.name,
            party.address,
            party.persona,
            party.rounds_kept,
            results.token.short(party.paid),
            results.token.short(party.vesting)
        )?;
    }
    writeln!(text, "\n{}.\n", results.money_line())?;

    writeln!(text, "## Use\n")?;
    if plan.rehearsal.is_none() {
        writeln!(
            text,
            "Pixels p of 0 to 255 enter as (p / 255 - {}) / {}.\n",
            convoke_models::data::PIXEL_MEAN,
            convoke_models::data::PIXEL_DEVIATION
        )?;
    }
    writeln!(
        text,
        "Measure it with `convoke evaluate model.safetensors --task task.toml --data DIR`.\n"
    )?;
    writeln!(text, "## Limits\n")?;
    if plan.rehearsal.is_some() {
        return writeln!(
            text,
            "Measured on data of the same origin as the training data: it says nothing of others."
        );
    }
    writeln!(
        text,
        "A demonstration: trained for minutes on small grey images. Accuracy was measured on images of \
         the same origin as the training images, and says nothing of others. The parties' label counts \
         differ (see the split above), so classes that few of them hold are learned less well."
    )
}

#[cfg(test)]
mod tests {
    use super::super::{plan, summary};
    use super::*;

    #[test]
    fn the_card_says_what_it_is_and_how_good() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let plan = plan::tests::plan(folder.path());
        let text = markdown(&plan, &summary::tests::results());
        for part in [
            "# fashion-mnist",
            "81.25 % on 1000 images",
            "Dirichlet(0.5)",
            "| 2 |",
            "## Limits",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }
}
