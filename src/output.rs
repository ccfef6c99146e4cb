//! What goes to standard output, for people or for programs, and logging to standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// The form of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line; amounts are decimal strings in whole tokens, and in `base_units`.
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

/// Aligns a column of numbers.
pub(crate) fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Names and values below one another, the values in one column.
#[derive(Debug, Default)]
pub(crate) struct Sheet(Vec<(&'static str, String)>);

impl Sheet {
    /// Adds a line; without a name it goes on with the value above, with neither it is empty.
    pub(crate) fn line(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            f.write_str(format!("{name:width$}  {value}").trim_end())?;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_sheet_stand_in_one_column() {
        let mut sheet = Sheet::default();
        sheet.line("token", "0x12");
        sheet.line("stake manager", "0x34");
        sheet.line("", "");
        sheet.line("", "more");
        assert_eq!(
            sheet.to_string(),
            "token          0x12\nstake manager  0x34\n\n               more"
        );
    }
}
