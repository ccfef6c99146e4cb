//! Following long work.

use std::fmt;

/// A part of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Another process makes the keys.
    Waiting,
    /// The circuit is written down.
    Circuit,
    /// The key's points are computed.
    Setup,
    /// The key is written.
    Saving,
    /// The key is read.
    Loading,
    /// A contribution to a ceremony is made.
    Contributing,
    /// A ceremony's transcript is checked.
    Checking,
    /// A round is proven.
    Proving,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for another process",
            Self::Circuit => "writing the circuit",
            Self::Setup => "making the key",
            Self::Saving => "saving the key",
            Self::Loading => "loading the key",
            Self::Contributing => "contributing",
            Self::Checking => "checking the transcript",
            Self::Proving => "proving",
        })
    }
}

/// Told how far long work is. Called from the thread that works, some hundred times at most.
pub trait Progress: Sync {
    /// `fraction` of the stage is done, 0 to 1.
    fn at(&self, stage: Stage, fraction: f64);
}

/// Nobody looks.
impl Progress for () {
    fn at(&self, _: Stage, _: f64) {}
}

impl<F: Fn(Stage, f64) + Sync> Progress for F {
    fn at(&self, stage: Stage, fraction: f64) {
        self(stage, fraction);
    }
}
