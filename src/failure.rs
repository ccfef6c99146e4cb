//! How a failure is told: one line with the cause, the causes behind it, a hint what to do, and
//! the exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use convoke_client::ChainError;

/// Something failed.
const FAILED: u8 = 1;
/// The command itself makes no sense.
const USAGE: u8 = 2;
/// A verification found something false.
const FALSIFIED: u8 = 3;
/// Stopped by Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// The command was wrong, not the world: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// Shorthand for a failed check of the arguments.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Stopped on request before the end: exit code 130.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl Error for Interrupted {}

/// A verification found something false, and has said so: exit code 3.
#[derive(Debug)]
pub(crate) struct Falsified;

impl fmt::Display for Falsified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a check fails")
    }
}

impl Error for Falsified {}

/// An error that knows what its reader can do about it.
#[derive(Debug)]
struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds a hint to an error.
pub(crate) trait HintExt<T> {
    /// `hint` says what to do; it is printed behind the causes.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> HintExt<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| hinted(error.into(), hint))
    }
}

/// The error with a hint.
pub(crate) fn hinted(error: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    Hinted {
        error,
        hint: hint.into(),
    }
    .into()
}

/// Prints the error to standard error and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprint!("{}", describe(error));
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return exit_code(&hinted.error);
    }
    if error.is::<Usage>() {
        USAGE
    } else if error.is::<Interrupted>() {
        INTERRUPTED
    } else if error.is::<Falsified>() {
        FALSIFIED
    } else {
        FAILED
    }
}

/// The text of a failure, each line ended.
fn describe(error: &anyhow::Error) -> String {
    if error.is::<Interrupted>() {
        return "interrupted\n".into();
    }
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Errors that quote their source would otherwise say everything twice.
        if !last.contains(&cause) {
            text.push_str(&format!("caused by: {cause}\n"));
        }
        last = cause;
    }
    if let Some(hint) = hint_for(error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// The hint that an error carries, or the usual one for its kind.
fn hint_for(error: &anyhow::Error) -> Option<String> {
    error
        .chain()
        .find_map(|cause| {
            cause
                .downcast_ref::<Hinted>()
                .map(|hinted| hinted.hint.clone())
        })
        .or_else(|| {
            error
                .chain()
                .find_map(|cause| cause.downcast_ref::<ChainError>().and_then(chain_hint))
                .map(str::to_owned)
        })
}

fn chain_hint(error: &ChainError) -> Option<&'static str> {
    match error {
        ChainError::Unreachable { .. } => {
            Some("start a chain with `convoke devnet`, or check `rpc` in the address book")
        }
        ChainError::Book { .. } => Some(
            "name the address book with --chain FILE or CONVOKE_CHAIN; `convoke chain deploy` writes one",
        ),
        ChainError::WrongChain { .. } | ChainError::NotDeployed { .. } => Some(
            "the address book belongs to another chain: deploy again with `convoke chain deploy`",
        ),
        ChainError::NotEnoughTokens { .. } => {
            Some("`convoke chain fund ADDRESS --tokens N` sends it tokens")
        }
        ChainError::UnknownTask { .. } => Some("`convoke task list` shows the tasks that exist"),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn causes_come_below_the_error_and_the_hint_last() {
        let error = Err::<(), _>(anyhow!("connection refused"))
            .context("cannot reach the chain")
            .hint("start it")
            .unwrap_err();
        assert_eq!(
            describe(&error),
            "error: cannot reach the chain\ncaused by: connection refused\nhint: start it\n"
        );
        assert_eq!(exit_code(&error), FAILED);
    }

    #[test]
    fn a_hint_survives_more_context() {
        let error = Err::<(), _>(anyhow!("low"))
            .hint("do this")
            .context("high")
            .unwrap_err();
        assert_eq!(
            describe(&error),
            "error: high\ncaused by: low\nhint: do this\n"
        );
    }

    #[test]
    fn wrong_usage_and_interrupts_have_their_own_codes() {
        assert_eq!(exit_code(&usage("no trainers")), USAGE);
        assert_eq!(exit_code(&hinted(usage("no trainers"), "give some")), USAGE);
        assert_eq!(exit_code(&Falsified.into()), FALSIFIED);
        assert_eq!(exit_code(&Interrupted.into()), INTERRUPTED);
        assert_eq!(describe(&Interrupted.into()), "interrupted\n");
    }

    #[test]
    fn known_errors_bring_their_hint() {
        let error = ChainError::Unreachable {
            rpc: "http://x".into(),
            reason: "refused".into(),
        };
        assert!(describe(&error.into()).contains("hint: start a chain"));
    }
}
