//! The report: one HTML file that needs no network. The chart library is inside it, and its
//! content security policy forbids the browser to load anything from anywhere.

use std::fmt::Write as _;

use convoke_protocol::ids::{Address, Role};
use convoke_sim::Persona;
use plotly::common::{Font, Line, LineShape, Marker, Mode, Orientation};
use plotly::configuration::DisplayModeBar;
use plotly::layout::{Axis, AxisType, BarMode, Legend, Margin};
use plotly::{Bar, Configuration, Layout, Plot, Scatter};

use super::plan::Plan;
use super::summary::Results;

const BLUE: &str = "#2563eb";
const ORANGE: &str = "#ea8a1e";
const LIGHT: &str = "#bfd3fb";
const GRID: &str = "#eceef2";
const INK: &str = "#1f2937";

const STYLE: &str = include_str!("report.css");

/// The report as one file.
pub(crate) fn html(plan: &Plan, results: &Results) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, plan, results);
    text
}

fn write(text: &mut String, plan: &Plan, results: &Results) -> std::fmt::Result {
    let last = results.last();
    let name = escape(&plan.name);
    let split = if plan.rehearsal.is_some() {
        String::new()
    } else {
        format!(", labels split by Dirichlet({})", plan.alpha)
    };
    write!(
        text,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} · Convoke</title>\n<style>{STYLE}</style>\n{}</head>\n<body>\n<main>\n",
        script()
    )?;
    writeln!(
        text,
        "<header><h1>{name}</h1><p>{} trainers, {} validators, {} rounds{split}, \
         rule <code>{}</code>, seed {}</p></header>",
        plan.trainers,
        plan.validators,
        plan.rounds,
        escape(&results.rule),
        plan.seed
    )?;
    let refused: usize = results
        .board
        .reports
        .values()
        .map(|report| report.refused.len())
        .sum();
    text.push_str("<section class=\"figures\">");
    for (value, label) in [
        (
            last.headline(),
            format!(
                "{} on {} held-back {}",
                last.title(),
                results.held_back,
                results.noun
            ),
        ),
        (format!("{:.3}", last.loss), "held-out loss".into()),
        (refused.to_string(), "updates refused".into()),
        (
            results.token.short(results.money.paid_out),
            format!("{} paid", results.token.symbol),
        ),
        (
            format!("{:.0} s", results.wall.as_secs_f64()),
            "from start to end".into(),
        ),
    ] {
        write!(text, "<div><b>{value}</b><span>{label}</span></div>")?;
    }
    text.push_str("</section>\n");
    section(
        text,
        "Learning",
        "Measured after each round on examples that neither trainers nor validators hold.",
        &figure("curves", &curves(results)),
    )?;
    section(
        text,
        "Updates, round by round",
        "A column a round. Point at a refusal for its reason.",
        &strip(results),
    )?;
    section(
        text,
        "Pay",
        &escape(&format!("{}.", results.money_line())),
        &figure("pay", &pay(results)),
    )?;
    section(text, "Who did what", "", &people(results))?;
    text.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

fn section(text: &mut String, title: &str, note: &str, body: &str) -> std::fmt::Result {
    writeln!(
        text,
        "<section><h2>{title}</h2><p>{note}</p>{body}</section>"
    )
}

/// The chart library alone; the crate's own text adds one for formulas that nothing here needs.
fn script() -> String {
    let all = Plot::offline_js_sources();
    let end = all
        .find("</script>")
        .map_or(all.len(), |at| at + "</script>".len());
    all[..end].to_owned()
}

fn figure(id: &str, plot: &Plot) -> String {
    format!(
        "<div class=\"plot\">{}</div>",
        plot.to_inline_html(Some(id))
    )
}

fn curves(results: &Results) -> Plot {
    let rounds: Vec<u32> = results.board.measured.keys().copied().collect();
    let quality = results
        .board
        .measured
        .values()
        .map(|measured| measured.height())
        .collect();
    let loss = results.board.measured.values().map(|m| m.loss).collect();
    let line = |color: &str| {
        Line::new()
            .color(color.to_owned())
            .width(2.5)
            .shape(LineShape::Linear)
    };
    let last = results.last();
    let (title, quality_axis) = match last.bits_per_byte {
        Some(_) => {
            let to_zero = plotly::layout::RangeMode::ToZero;
            (last.title(), axis(last.title()).range_mode(to_zero))
        }
        None => ("accuracy, %", axis("accuracy, %").range(vec![0, 100])),
    };
    let mut plot = Plot::new();
    plot.add_trace(
        Scatter::new(rounds.clone(), quality)
            .name(title)
            .mode(Mode::LinesMarkers)
            .line(line(BLUE)),
    );
    plot.add_trace(
        Scatter::new(rounds, loss)
            .name("loss, nats")
            .mode(Mode::LinesMarkers)
            .line(line(ORANGE))
            .y_axis("y2"),
    );
    plot.set_layout(
        layout()
            .x_axis(
                axis("round")
                    .dtick(round_ticks(results.board.rounds))
                    .zero_line(false),
            )
            .y_axis(quality_axis)
            .y_axis2(
                axis("loss, nats")
                    .overlaying("y")
                    .side(plotly::common::AxisSide::Right)
                    .range_mode(plotly::layout::RangeMode::ToZero)
                    .show_grid(false),
            ),
    );
    plot.set_configuration(configuration());
    plot
}

/// About ten ticks.
fn round_ticks(rounds: u32) -> f64 {
    f64::from(rounds.div_ceil(10).max(1))
}

fn pay(results: &Results) -> Plot {
    // The first stands on top.
    let parties: Vec<_> = results.parties.iter().rev().collect();
    let names: Vec<String> = parties
        .iter()
        .map(|party| match party.persona {
            Persona::Honest => party.name.clone(),
            persona => format!("{} ({persona})", party.name),
        })
        .collect();
    let tokens = |amount: convoke_protocol::ids::Amount| amount.0 as f64 / 1e18;
    let bar = |name: &str, color: &str, values: Vec<f64>| {
        Bar::new(values, names.clone())
            .name(name)
            .orientation(Orientation::Horizontal)
            .marker(Marker::new().color(color.to_owned()))
    };
    let mut plot = Plot::new();
    plot.add_trace(bar(
        "paid",
        BLUE,
        parties.iter().map(|p| tokens(p.paid)).collect(),
    ));
    plot.add_trace(bar(
        "vesting",
        LIGHT,
        parties.iter().map(|p| tokens(p.vesting)).collect(),
    ));
    plot.set_layout(
        layout()
            .bar_mode(BarMode::Stack)
            .height(90 + 26 * parties.len())
            .x_axis(axis("tokens"))
            .y_axis(axis("").type_(AxisType::Category).auto_margin(true)),
    );
    plot.set_configuration(configuration());
    plot
}

fn layout() -> Layout {
    Layout::new()
        .font(
            Font::new()
                .family("system-ui, sans-serif")
                .size(13)
                .color(INK),
        )
        .paper_background_color("rgba(0,0,0,0)")
        .plot_background_color("rgba(0,0,0,0)")
        .margin(Margin::new().left(60).right(60).top(30).bottom(50))
        .legend(
            Legend::new()
                .orientation(Orientation::Horizontal)
                .x(0.0)
                .y(1.15),
        )
        .height(360)
}

fn axis(title: &str) -> Axis {
    let axis = Axis::new()
        .grid_color(GRID)
        .zero_line_color(GRID)
        .line_color(GRID);
    if title.is_empty() {
        axis
    } else {
        axis.title(title.to_owned())
    }
}

fn configuration() -> Configuration {
    Configuration::new()
        .display_mode_bar(DisplayModeBar::False)
        .responsive(true)
}

/// A grid of trainers by rounds: kept, refused, absent.
fn strip(results: &Results) -> String {
    let mut text = String::from("<div class=\"scroll\"><table class=\"strip\"><tr><th></th>");
    for round in results.board.reports.keys() {
        let _ = write!(text, "<th>{round}</th>");
    }
    text.push_str("</tr>");
    for party in results
        .parties
        .iter()
        .filter(|party| party.role == Role::Trainer)
    {
        let _ = write!(
            text,
            "<tr><th title=\"{}\">{} <i>{}</i></th>",
            party.address,
            escape(&party.name),
            party.persona
        );
        for report in results.board.reports.values() {
            text.push_str(&cell(report, party.address));
        }
        text.push_str("</tr>");
    }
    text.push_str(
        "</table></div><p class=\"key\"><span class=\"kept\"></span> kept \
         <span class=\"refused\"></span> refused <span class=\"absent\"></span> nothing sent</p>",
    );
    text
}

fn cell(report: &convoke_protocol::message::RoundReport, trainer: Address) -> String {
    let kept = report.kept.iter().find(|kept| kept.trainer == trainer);
    let refused = report
        .refused
        .iter()
        .find(|(address, _)| *address == trainer);
    let (class, title) = match (kept, refused) {
        (_, Some((_, refusal))) => ("refused", refusal.to_string()),
        (Some(kept), None) => (
            "kept",
            format!(
                "kept, {} examples, cosine {:.3}",
                kept.num_examples,
                f64::from(kept.cosine_ppm) / 1e6
            ),
        ),
        (None, None) => ("absent", "nothing sent".into()),
    };
    format!(
        "<td class=\"{class}\" title=\"round {}: {}\"></td>",
        report.round,
        escape(&title)
    )
}

fn people(results: &Results) -> String {
    let mut text = String::from(
        "<div class=\"scroll\"><table class=\"people\"><tr><th>who</th><th>account</th><th>persona</th>\
         <th>examples</th><th>kept</th><th>refused</th><th>paid</th><th>vesting</th></tr>",
    );
    for party in &results.parties {
        let trains = party.role == Role::Trainer;
        let number = |number: usize| {
            if trains {
                number.to_string()
            } else {
                String::new()
            }
        };
        let _ = write!(
            text,
            "<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&party.name),
            party.address,
            party.persona,
            number(party.examples),
            party.rounds_kept,
            number(party.rounds_refused as usize),
            results.token.short(party.paid).replace('<', "&lt;"),
            results.token.short(party.vesting).replace('<', "&lt;")
        );
    }
    text.push_str("</table></div>");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{plan, summary};
    use super::*;

    fn report() -> String {
        let folder = tempfile::tempdir().unwrap();
        html(
            &plan::tests::plan(folder.path()),
            &summary::tests::results(),
        )
    }

    #[test]
    fn the_page_loads_nothing() {
        let text = report();
        let library = script();
        assert!(library.len() > 1_000_000 && library.matches("<script").count() == 1);
        // The library names hosts that it would use for maps; the policy and the rest of the page do not.
        let own = text.replace(&library, "");
        for part in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!own.contains(part), "{part} is in the page");
        }
        assert!(own.contains("default-src 'none'"));
    }

    #[test]
    fn the_page_shows_curves_strip_and_pay() {
        let text = report();
        for part in [
            "81.25 %",
            "id=\"curves\"",
            "id=\"pay\"",
            "class=\"refused\" title=\"round 2: trained on no examples\"",
        ] {
            assert!(text.contains(part), "{part:?} is missing");
        }
    }

    #[test]
    fn names_cannot_smuggle_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
