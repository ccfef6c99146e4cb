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
        Some(folder) => format!("the idx files of `{}`", folder.display()),
        None => "a balanced share of Fashion-MNIST (MIT licence, arXiv:1708.07747)".into(),
    };
    writeln!(text, "# {}\n", plan.name)?;
    writeln!(
        text,
        "An image classifier trained by {} parties together with Convoke; no party's images left it.\n",
        plan.trainers
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(
        text,
        "| held-out accuracy | {:.2} % of {} images |",
        100.0 * last.accuracy,
        results.held_back
    )?;
    writeln!(text, "| held-out loss | {:.4} nats |", last.loss)?;
    writeln!(
        text,
        "| architecture | small convolutional network (`cnn`), weights in `model.safetensors` (F32) |"
    )?;
    writeln!(text, "| BLAKE3 of the file | `{}` |", results.checkpoint)?;
    writeln!(text, "| data | {data} |")?;
    writeln!(
        text,
        "| split | Dirichlet({}) over the labels, seed {} |",
        plan.alpha, plan.seed
    )?;
    writeln!(text, "| rounds | {} |", plan.rounds)?;
    writeln!(text, "| aggregation rule | `{}` |", plan.rule)?;
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
        "\n## Rounds\n\n| round | accuracy | loss | kept | refused |\n|---:|---:|---:|---:|---|"
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
            "| {} | {:.2} % | {:.4} | {} | {} |",
            report.round,
            100.0 * measured.accuracy,
            measured.loss,
            report.kept.len(),
            refused.join("; ")
        )?;
    }

    writeln!(
        text,
        "\n## Contributors\n\n| who | account | persona | images | rounds kept | paid | vesting |\n|---|---|---|---:|---:|---:|---:|"
    )?;
    for party in &results.parties {
        let images = if party.role == Role::Trainer {
            party.examples.to_string()
        } else {
            String::new()
        };
        writeln!(
            text,
            "| {} | `{}` | {} | {images} | {} | {} | {} |",
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
    writeln!(
        text,
        "Pixels p of 0 to 255 enter as (p / 255 - {}) / {}. Measure it with \
         `convoke evaluate model.safetensors --data DIR`.\n",
        convoke_models::data::PIXEL_MEAN,
        convoke_models::data::PIXEL_DEVIATION
    )?;
    writeln!(text, "## Limits\n")?;
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
            "81.25 % of 1000 images",
            "Dirichlet(0.5)",
            "| 2 |",
            "## Limits",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }
}
