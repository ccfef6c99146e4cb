//! The live screen: the alternate screen of the terminal, restored whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::{DefaultTerminal, Frame};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::widgets;

/// How long the keyboard is waited for before a look at whether the screen is closed.
const POLL: Duration = Duration::from_millis(100);

/// An open screen. Dropping it gives the terminal back; so does a panic.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    closed: Arc<AtomicBool>,
}

impl Screen {
    /// Takes over the terminal. Ctrl-C, q and Escape cancel `quit`.
    pub(crate) fn open(quit: CancellationToken) -> anyhow::Result<Self> {
        let terminal = ratatui::try_init().context("cannot draw on this terminal")?;
        let closed = Arc::new(AtomicBool::new(false));
        let stop = closed.clone();
        std::thread::spawn(move || listen(&stop, &quit));
        Ok(Self { terminal, closed })
    }

    /// Draws the board.
    pub(crate) fn draw(&mut self, board: &Board) -> anyhow::Result<()> {
        self.terminal
            .draw(|frame| render(frame, board))
            .context("cannot draw on this terminal")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        ratatui::restore();
    }
}

fn listen(closed: &AtomicBool, quit: &CancellationToken) {
    while !closed.load(Ordering::Relaxed) {
        match event::poll(POLL) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let Ok(Event::Key(key)) = event::read() else {
            continue;
        };
        let interrupts =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        let quits = interrupts || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
        if key.kind == KeyEventKind::Press && quits {
            quit.cancel();
        }
    }
}

/// Draws the board into a frame of any size.
pub(crate) fn render(frame: &mut Frame<'_>, board: &Board) {
    let area = frame.area();
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2);
    let spacious = area.height >= 34;
    // Where there is room, validators have a block of their own; else they share a row with the chart.
    let trainers = rows(board.trainers.len().max(1)).min(area.height.saturating_sub(14).max(4));
    let validators = rows(board.validators.len().max(1)).min(8);
    let [header, stepper, trainer_area, lower, news, footer] = Layout::vertical([
        Constraint::Length(if spacious { 2 } else { 1 }),
        Constraint::Length(if spacious { 2 } else { 1 }),
        Constraint::Length(trainers),
        Constraint::Min(5),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    widgets::header(frame, header, board);
    widgets::stepper(frame, stepper, board);
    widgets::trainers(frame, trainer_area, board);
    lower_part(frame, lower, validators, board);
    widgets::news(frame, news, board);
    widgets::footer(frame, footer, board);
}

fn lower_part(frame: &mut Frame<'_>, area: Rect, validators: u16, board: &Board) {
    let [left, right] =
        Layout::horizontal([Constraint::Length(30), Constraint::Min(30)]).areas(area);
    let [validator_area, loss] =
        Layout::vertical([Constraint::Length(validators), Constraint::Min(0)]).areas(left);
    widgets::validators(frame, validator_area, board);
    widgets::loss(frame, loss, board);
    widgets::quality(frame, right, board);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::ids::{RoundId, TaskId};
    use convoke_protocol::message::{Notice, PhaseName};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::board::Measured;
    use super::super::board::tests::{address, report};
    use super::*;

    fn board() -> Board {
        let mut board = Board::new("fashion-mnist", 10, 31_337);
        board.task = Some(TaskId(1));
        for (byte, persona) in [
            (1, "honest"),
            (2, "honest"),
            (3, "sign_flipper"),
            (4, "noise"),
        ] {
            let row = board.trainer(address(byte));
            row.name = format!("trainer-{byte}");
            row.persona = persona.into();
        }
        board.validator(address(101)).name = "validator-1".into();
        board.hear(&Notice::RoundCommitted(Box::new(report(
            1,
            &[1, 2],
            &[3, 4],
        ))));
        let round = RoundId(2);
        board.hear(&Notice::PhaseBegan {
            round,
            attempt: 1,
            phase: PhaseName::Open,
            cohort: vec![],
        });
        let cohort = (1..=4).map(address).collect();
        board.hear(&Notice::PhaseBegan {
            round,
            attempt: 1,
            phase: PhaseName::Train,
            cohort,
        });
        board.hear(&Notice::TrainerProgressed {
            round,
            trainer: address(1),
            step: 3,
            steps: 5,
        });
        board.hear(&Notice::UpdateRefused {
            round,
            trainer: address(4),
            refusal: convoke_protocol::refusal::Refusal::NoExamples,
        });
        for (round, accuracy) in [(0, 0.1), (1, 0.712)] {
            board.measured.insert(
                round,
                Measured {
                    accuracy,
                    loss: 2.3 * (1.0 - accuracy),
                    bits_per_byte: None,
                },
            );
        }
        board.elapsed = Duration::from_secs(41);
        board.news = "round 1: settled".into();
        board.footer = "logs in convoke-demo/logs".into();
        board
    }

    fn drawn(width: u16, height: u16, board: &Board) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| render(frame, board)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn everything_that_matters_is_there_at_both_sizes() {
        for (width, height) in [(80, 24), (120, 40)] {
            let text = drawn(width, height, &board());
            for part in [
                "fashion-mnist",
                "task 1",
                "round 2/10",
                "00:41",
                "Train",
                "Settle",
                "trainer-1",
                "training 60 %",
                "sign_flipper",
                "refused: no examples",
                "validator-1",
                "71.20 %",
                "loss",
                "round 1: settled",
                "convoke-demo/logs",
            ] {
                assert!(
                    text.contains(part),
                    "{part:?} is missing at {width}x{height}:\n{text}"
                );
            }
        }
    }

    #[test]
    fn no_size_makes_it_panic() {
        let mut crowd = board();
        for byte in 10..90 {
            crowd.trainer(address(byte));
            crowd.validator(address(byte + 120));
        }
        for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 24), (300, 100)] {
            drawn(width, height, &crowd);
            drawn(width, height, &Board::new("t", 1, 1));
        }
        assert!(drawn(80, 24, &crowd).contains("more"));
    }
}
