//! How a running role shows what it does: a bar at a terminal, lines elsewhere. And how a single
//! transaction shows that it is awaited.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::output::{self, Format};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Shows events, and the steps of the round under way.
pub(crate) struct Progress {
    format: Format,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar if a person looks on, none otherwise.
    pub(crate) fn new(format: Format) -> Self {
        let attended = format == Format::Text && console::user_attended();
        let bar = attended.then(|| ProgressBar::no_length().with_style(style()));
        Self { format, bar }
    }

    /// So many steps of the round are done. Too frequent for lines: without a bar nothing is shown.
    pub(crate) fn step(&self, label: &str, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            if bar.is_finished() {
                bar.reset();
            }
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(label.to_owned());
        }
    }

    /// The steps are over.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Tells programs, and not people, of something small.
    pub(crate) fn detail(&self, value: &Value) {
        if self.format == Format::Json {
            self.event(value, "");
        }
    }

    /// Shows an event as a line.
    pub(crate) fn event(&self, value: &Value, text: &str) {
        let print = || match self.format {
            Format::Json => output::line(&value.to_string()),
            Format::Text => output::line(text),
        };
        let printed = match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
        if let Err(error) = printed {
            tracing::debug!(%error, "event not shown");
        }
    }
}

/// A sign of life on standard error while a transaction is awaited, for a person who looks on.
pub(crate) struct Waiting(Option<ProgressBar>);

impl Waiting {
    /// Begins to turn; ends when dropped. `what` is as in "cannot …".
    pub(crate) fn start(format: Format, what: &str) -> Self {
        let attended = format == Format::Text && console::user_attended_stderr();
        Self(attended.then(|| {
            let spinner = ProgressBar::new_spinner().with_style(spinner_style());
            spinner.set_message(format!("{what}: waiting for the chain"));
            spinner.enable_steady_tick(TICK);
            spinner
        }))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")
        .expect("the template is a constant that the tests below parse")
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30.cyan/dim} {pos:>5}/{len:<5} {msg}")
        .expect("the template is a constant that the tests below parse")
        .progress_chars("━━╌")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_templates_parse() {
        let _ = (super::style(), super::spinner_style());
    }
}
