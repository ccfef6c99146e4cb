//! What a verification found: one line a check.

use std::fmt;

use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// What was said is true.
    Holds,
    /// Somebody lied, or something is broken.
    Fails,
    /// What it takes is not to be had here.
    NotCheckable,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holds => "holds",
            Self::Fails => "FAILS",
            Self::NotCheckable => "not checkable",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was checked, in a word or two.
    pub(crate) check: &'static str,
    /// How it came out.
    pub(crate) outcome: Outcome,
    /// What was found, or why nothing could be.
    pub(crate) why: String,
}

impl Check {
    pub(crate) fn holds(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Outcome::Holds, why)
    }

    pub(crate) fn fails(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Outcome::Fails, why)
    }

    pub(crate) fn not_checkable(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Outcome::NotCheckable, why)
    }

    /// Holds with `good`, or fails with the reason.
    pub(crate) fn of(check: &'static str, good: String, found: Result<(), String>) -> Self {
        match found {
            Ok(()) => Self::holds(check, good),
            Err(why) => Self::fails(check, why),
        }
    }

    fn new(check: &'static str, outcome: Outcome, why: impl Into<String>) -> Self {
        Self {
            check,
            outcome,
            why: why.into(),
        }
    }
}

/// Whether any check fails.
pub(crate) fn any_fails(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.outcome == Outcome::Fails)
}
