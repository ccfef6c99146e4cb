//! Watching a task: what is known of it ([`board`]), and how that is shown, on a live screen
//! ([`screen`]) or as lines ([`lines`]).

pub(crate) mod board;
pub(crate) mod lines;
pub(crate) mod observer;
pub(crate) mod screen;
mod widgets;

use std::io::IsTerminal as _;
use std::time::Duration;

use convoke_protocol::message::Notice;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use self::lines::Lines;
use self::screen::Screen;
use crate::output::Format;

/// The screen is drawn this often, so that clock and bars move.
pub(crate) const FRAME: Duration = Duration::from_millis(100);

/// Where news goes.
pub(crate) enum View {
    /// A live screen, at a terminal.
    Screen(Box<Screen>),
    /// Lines, one for each thing that happened.
    Lines(Lines),
}

impl View {
    /// A screen if a person looks on, lines otherwise. `quit` is cancelled by the screen's keys.
    pub(crate) fn open(format: Format, quit: &CancellationToken) -> anyhow::Result<Self> {
        if format == Format::Text && std::io::stdout().is_terminal() {
            return Ok(Self::Screen(Box::new(Screen::open(quit.clone())?)));
        }
        Ok(Self::Lines(Lines::new(format)))
    }

    /// Shows something that happened, after the board has heard of it.
    pub(crate) fn notice(&mut self, board: &Board, notice: &Notice) -> anyhow::Result<()> {
        match self {
            Self::Screen(_) => Ok(()),
            Self::Lines(lines) => lines.notice(board, notice),
        }
    }

    /// Shows a remark of our own.
    pub(crate) fn remark(&mut self, board: &mut Board, text: &str) -> anyhow::Result<()> {
        board.news = text.to_owned();
        match self {
            Self::Screen(screen) => screen.draw(board),
            Self::Lines(lines) => lines.say(text),
        }
    }

    /// Draws the board anew.
    pub(crate) fn draw(&mut self, board: &Board) -> anyhow::Result<()> {
        match self {
            Self::Screen(screen) => screen.draw(board),
            Self::Lines(_) => Ok(()),
        }
    }
}
