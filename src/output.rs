//! What goes to standard output, for people or for programs, and logging to standard error.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// The form of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, amounts in base units.
    Json,
}

impl Format {
    /// Prints a result: as JSON, or as the text that `text` makes.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self {
            Self::Json => line(&serde_json::to_string(value)?),
            Self::Text => line(&text()),
        }
    }

    /// Prints an event of a running role.
    pub(crate) fn event(self, event: &serde_json::Value, text: &str) -> anyhow::Result<()> {
        self.print(event, || text.to_owned())
    }
}

/// Writes a line to standard output. A reader that has gone away (`| head`) is no failure.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// A line below the header, and one at the end.
const STYLE: TableStyle = TableStyle::new()
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// A plain table with a header.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.map(Cell::new));
    for column in table.column_iter_mut() {
        // The style puts one space between columns.
        column.set_padding((0, 0));
    }
    table
}

/// Sends logs to standard error; `filter` is as in `info,convoke=debug`.
pub(crate) fn start_logging(filter: Option<&str>) -> anyhow::Result<()> {
    let filter = filter.unwrap_or("warn");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| crate::failure::usage(format!("--log {filter:?}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(console::user_attended_stderr())
        .init();
    Ok(())
}
