//! How a running role shows what it does: a bar at a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::output::{self, Format};

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

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30.cyan/dim} {pos:>5}/{len:<5} {msg}")
        .expect("the template is a constant that the tests below parse")
        .progress_chars("━━╌")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_parses() {
        let _ = super::style();
    }
}
