//! Which blobs of a run may be read and written now.

use super::{Phase, Run, train};
use crate::ids::{Address, BlobHash};
use crate::update::UpdateHeader;

impl Run {
    /// Whether `delta` is what `trainer` may send now.
    #[must_use]
    pub fn expects_delta(&self, trainer: Address, delta: &BlobHash) -> bool {
        matches!(&self.phase, Phase::Train(train) if train.expects(trainer, delta))
    }

    /// What everyone may read: the first checkpoint, the base, and of the latest rounds the
    /// checkpoints, what they were encoded as and from, what belongs to them and the records.
    pub fn published(&self) -> impl Iterator<Item = BlobHash> + '_ {
        let known = self.history.iter().flat_map(|report| {
            let checkpoints = [report.base, report.checkpoint];
            let sent = report.broadcast.iter();
            let others = report.states.iter().copied();
            let others = others.chain(report.control).chain(report.record);
            let others = others.chain(sent.flat_map(|sent| [sent.patch, sent.exact]));
            checkpoints.into_iter().chain(others)
        });
        known.chain([self.setup.initial, self.base()])
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

    /// Deltas of the updates that the latest round to close its training has decided on.
    pub fn decided_deltas(&self) -> impl Iterator<Item = BlobHash> + '_ {
        let updates = self.dossier.updates.iter();
        updates.map(|entry| entry.update.header.delta)
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
