//! The parts of the live screen.

use convoke_protocol::message::PhaseName;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Axis, Block, BorderType, Cell, Chart, Dataset, GraphType, Paragraph, Row, Sparkline, Table,
};

use super::board::{Board, Measured, Over, TrainerRow, TrainerState, ValidatorState};

const ACCENT: Color = Color::Cyan;
const GOOD: Color = Color::Green;
const BAD: Color = Color::Red;
const BUSY: Color = Color::Yellow;
const QUIET: Color = Color::DarkGray;

/// The phases of a round, in order.
const PHASES: [(PhaseName, &str); 6] = [
    (PhaseName::Open, "Open"),
    (PhaseName::Train, "Train"),
    (PhaseName::Filter, "Filter"),
    (PhaseName::Validate, "Validate"),
    (PhaseName::Commit, "Commit"),
    (PhaseName::Settle, "Settle"),
];

/// Task, chain, round and clock.
pub(super) fn header(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let task = board
        .task
        .map(|task| format!(" · task {task}"))
        .unwrap_or_default();
    let left = Line::from(vec![
        " convoke ".bold().fg(Color::Black).bg(ACCENT),
        format!(" {}", board.name).bold(),
        format!("{task} · chain {}", board.chain_id).fg(QUIET),
    ]);
    let seconds = board.elapsed.as_secs();
    let right = Line::from(vec![
        format!("round {}/{}", board.round, board.rounds).bold(),
        format!("  {:02}:{:02} ", seconds / 60, seconds % 60).fg(QUIET),
    ]);
    frame.render_widget(Paragraph::new(left), area);
    frame.render_widget(Paragraph::new(right).alignment(Alignment::Right), area);
}

/// The phases, with the present one marked.
pub(super) fn stepper(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let now = PHASES
        .iter()
        .position(|(phase, _)| Some(*phase) == board.phase);
    let finished = board.over == Some(Over::Finished);
    let mut spans = vec![Span::raw(" ")];
    for (index, (_, name)) in PHASES.iter().enumerate() {
        if index > 0 {
            spans.push(" ── ".fg(QUIET));
        }
        spans.push(match now {
            _ if finished => format!("● {name}").fg(GOOD),
            Some(at) if index < at => format!("● {name}").fg(GOOD),
            Some(at) if index == at => format!("◉ {name}").bold().fg(BUSY),
            _ => format!("○ {name}").fg(QUIET),
        });
    }
    match &board.over {
        Some(Over::Failed(_)) => spans.push("  failed".bold().fg(BAD)),
        Some(Over::Finished) => spans.push("  finished".bold().fg(GOOD)),
        None if board.attempt > 1 => {
            spans.push(format!("  attempt {}", board.attempt).fg(BUSY));
        }
        None => {}
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// One row for each trainer: who, what it does, how far it is, how it has fared.
pub(super) fn trainers(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let block = boxed("trainers", Some("kept / refused"));
    let room = usize::from(area.height.saturating_sub(2));
    let hidden = board.trainers.len().saturating_sub(room);
    let shown = if hidden > 0 {
        room.saturating_sub(1)
    } else {
        room
    };
    let bar = usize::from(area.width.saturating_sub(72)).clamp(6, 40);
    let mut rows: Vec<Row<'_>> = board
        .trainers
        .iter()
        .take(shown)
        .map(|row| trainer(row, bar))
        .collect();
    if hidden > 0 {
        rows.push(Row::new([
            Span::from(format!("and {} more", hidden + 1)).fg(QUIET)
        ]));
    }
    let widths = [
        Constraint::Length(11),
        Constraint::Length(12),
        Constraint::Length(14),
        Constraint::Length(u16::try_from(bar).unwrap_or(u16::MAX)),
        Constraint::Min(21),
        Constraint::Length(7),
    ];
    frame.render_widget(
        Table::new(rows, widths).block(block).column_spacing(1),
        area,
    );
}

fn trainer(row: &TrainerRow, bar: usize) -> Row<'static> {
    let honest = matches!(row.persona.as_str(), "" | "honest");
    let color = match &row.state {
        TrainerState::Waiting => QUIET,
        TrainerState::Training { .. } => BUSY,
        TrainerState::Sent => ACCENT,
        TrainerState::Kept => GOOD,
        TrainerState::Refused(_) | TrainerState::Absent => BAD,
    };
    let counts = Line::from(vec![
        format!("{:>3}", row.kept).fg(GOOD),
        " /".fg(QUIET),
        format!("{:>2}", row.refused).fg(if row.refused > 0 { BAD } else { QUIET }),
    ]);
    Row::new([
        Cell::from(row.name.clone()),
        Cell::from(row.address.short()).style(Style::new().fg(QUIET)),
        Cell::from(row.persona.clone()).style(Style::new().fg(if honest { QUIET } else { BAD })),
        Cell::from(gauge(row.state.progress(), bar, color)),
        Cell::from(row.state.words()).style(Style::new().fg(color)),
        Cell::from(counts),
    ])
}

/// A bar of `width` cells, in eighths of a cell.
fn gauge(ratio: f64, width: usize, color: Color) -> Line<'static> {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let filled = (ratio.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let (full, part) = (filled / 8, EIGHTHS[filled % 8]);
    let rest = width - full - usize::from(!part.is_empty());
    Line::from(vec![
        Span::from("█".repeat(full) + part).fg(color),
        Span::from("·".repeat(rest)).fg(QUIET),
    ])
}

/// One row for each validator.
pub(super) fn validators(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let block = boxed("validators", Some("scored"));
    let row = |row: &super::board::ValidatorRow| {
        let color = match row.state {
            ValidatorState::Waiting => QUIET,
            ValidatorState::Scoring => BUSY,
            ValidatorState::Committed => ACCENT,
            ValidatorState::Revealed => GOOD,
            ValidatorState::Failed => BAD,
        };
        Row::new([
            Cell::from(row.name.clone()),
            Cell::from(row.state.words()).style(Style::new().fg(color)),
            Cell::from(format!("{:>3}", row.rounds)).style(Style::new().fg(QUIET)),
        ])
    };
    let widths = [
        Constraint::Length(12),
        Constraint::Min(9),
        Constraint::Length(4),
    ];
    let rows = board.validators.iter().map(row);
    frame.render_widget(
        Table::new(rows, widths).block(block).column_spacing(1),
        area,
    );
}

/// Held-out accuracy, or what else the checkpoints are measured by, over the rounds.
pub(super) fn quality(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let latest = board.latest().map(Measured::headline);
    let title = board.latest().map_or("accuracy", Measured::title);
    let block = boxed(&format!("held-out {title}"), latest.as_deref());
    let points: Vec<(f64, f64)> = board
        .measured
        .iter()
        .map(|(round, m)| (f64::from(*round), m.height()))
        .collect();
    let line = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(Style::new().fg(ACCENT))
        .data(&points);
    let rounds = f64::from(board.rounds.max(1));
    // Percent have their own top; bits take the next even number.
    let bits = board.latest().is_some_and(|m| m.bits_per_byte.is_some());
    let highest = points.iter().map(|(_, height)| *height).fold(0.0, f64::max);
    let top = if bits {
        2.0 * (highest / 2.0).ceil().max(1.0)
    } else {
        100.0
    };
    let quiet = |text: String| Span::from(text).fg(QUIET);
    let chart = Chart::new(vec![line])
        .block(block)
        .x_axis(
            Axis::default()
                .bounds([0.0, rounds])
                .style(Style::new().fg(QUIET))
                .labels([quiet("0".into()), quiet(format!("round {}", board.rounds))]),
        )
        .y_axis(
            Axis::default()
                .bounds([0.0, top])
                .style(Style::new().fg(QUIET))
                .labels([0.0, top / 2.0, top].map(|tick| quiet(tick.to_string()))),
        );
    frame.render_widget(chart, area);
}

/// Held-out loss over the rounds, lowest bar for nothing.
pub(super) fn loss(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let latest = board.latest().map(|m| format!("{:.3}", m.loss));
    let block = boxed("held-out loss", latest.as_deref());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let worst = board
        .measured
        .values()
        .map(|m| m.loss)
        .filter(|l| l.is_finite())
        .fold(0.0, f64::max);
    let bars: Vec<u64> = board
        .measured
        .values()
        .map(|m| {
            if m.loss.is_finite() {
                (m.loss * 1_000.0) as u64
            } else {
                u64::MAX
            }
        })
        .collect();
    // One column is thin: as many as fit go to each round.
    let room = usize::from(inner.width) / (board.rounds as usize + 1).max(1);
    let wide: Vec<u64> = bars
        .iter()
        .flat_map(|bar| std::iter::repeat_n(*bar, room.clamp(1, 4)))
        .collect();
    let skip = wide.len().saturating_sub(usize::from(inner.width));
    let sparkline = Sparkline::default()
        .data(&wide[skip..])
        .max(((worst * 1_000.0) as u64).max(1))
        .style(Style::new().fg(Color::Magenta));
    frame.render_widget(sparkline, inner);
}

/// The last thing worth a line.
pub(super) fn news(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    frame.render_widget(Paragraph::new(Line::from(format!(" {}", board.news))), area);
}

/// Where more can be read, and how to leave.
pub(super) fn footer(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let left = Line::from(format!(" {}", board.footer)).fg(QUIET);
    frame.render_widget(Paragraph::new(left), area);
    let right = Line::from("q quits ").fg(QUIET);
    frame.render_widget(Paragraph::new(right).alignment(Alignment::Right), area);
}

fn boxed(title: &str, note: Option<&str>) -> Block<'static> {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().fg(QUIET))
        .title(Line::from(format!(" {title} ")).fg(ACCENT));
    match note {
        Some(note) => block.title(Line::from(format!(" {note} ")).right_aligned().bold()),
        None => block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_fills_its_width_exactly() {
        for eighth in 0..=80u32 {
            let line = gauge(f64::from(eighth) / 80.0, 10, GOOD);
            assert_eq!(line.width(), 10, "{line}");
        }
        assert_eq!(gauge(2.0, 4, GOOD).to_string(), "████");
        assert_eq!(gauge(0.5, 4, GOOD).to_string(), "██··");
    }
}
