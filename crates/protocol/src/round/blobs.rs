//! Which blobs of a run may be read and written now.

use super::{Phase, Run, train};
use crate::ids::{Address, BlobHash};
use crate::message::RoundReport;
use crate::update::UpdateHeader;

impl Run {
    /// Whether `delta` is what `trainer` may send now.
    #[must_use]
    pub fn expects_delta(&self, trainer: Address, delta: &BlobHash) -> bool {
        matches!(&self.phase, Phase::Train(train) if train.expects(trainer, delta))
    }

    /// What everyone may read: the first checkpoint, the base, and of the latest rounds the
    /// checkpoints, what they were encoded as and from, the server optimizer's states and the
    /// records.
    pub fn published(&self) -> impl Iterator<Item = BlobHash> + '_ {
        let of_round = |report: &RoundReport| {
            let checkpoints = [report.base, report.checkpoint];
            let sent = report.broadcast.as_deref();
            let patch = [sent.map(|b| b.patch), sent.map(|b| b.exact)];
            let others = [report.state, report.record].into_iter().chain(patch);
            checkpoints.into_iter().chain(others.flatten())
        };
        let known = self.history.iter().flat_map(of_round);
        known.chain([self.setup.initial, self.base])
    }

    /// Deltas that validators may read: the candidates under validation.
    pub fn candidates(&self) -> impl Iterator<Item = BlobHash> + '_ {
        let candidates = match &self.phase {
            Phase::Validate(validate) => validate.candidates(),
            _ => &[],
        };
        candidates.iter().map(|candidate| candidate.delta)
    }

    /// Deltas that were announced and have not arrived, by trainer.
    pub fn awaited_deltas(&self) -> impl Iterator<Item = (Address, BlobHash)> + '_ {
        let train = match &self.phase {
            Phase::Train(train) => Some(train),
            _ => None,
        };
        train.into_iter().flat_map(train::Train::awaited)
    }

    /// The header that `trainer` announced in the round under way.
    #[must_use]
    pub fn announced(&self, trainer: Address) -> Option<&UpdateHeader> {
        match &self.phase {
            Phase::Train(train) => train.announced(trainer),
            _ => None,
        }
    }
}
