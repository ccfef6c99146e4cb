//! Who may read and write which blobs now. A snapshot of the state machine's answers, shared
//! with the connections' tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use convoke_protocol::ids::{Address, BlobHash, Role};
use convoke_protocol::round::Run;
use convoke_transport::BlobPolicy;
use tokio::sync::mpsc;

use super::Input;

/// The blob policy of the aggregator.
#[derive(Clone)]
pub(super) struct Access {
    rights: Arc<Mutex<Rights>>,
    inputs: mpsc::Sender<Input>,
}

#[derive(Default)]
struct Rights {
    /// Checkpoints, server optimizer's states and records: for everyone.
    published: BTreeSet<BlobHash>,
    /// Candidates: for validators, while they score.
    candidates: BTreeSet<BlobHash>,
    validators: BTreeSet<Address>,
    /// The one delta that each trainer may send, and its exact length.
    deltas: BTreeMap<Address, (BlobHash, u64)>,
    /// Deltas seen in this round, to be removed after it.
    seen: BTreeSet<BlobHash>,
    /// Deltas seen in the last round that came too late for it, and may be announced again.
    late: BTreeSet<BlobHash>,
}

impl Access {
    pub(super) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self {
            rights: Arc::default(),
            inputs,
        }
    }

    /// Takes over what the state machine allows now.
    pub(super) fn update(&self, run: &Run) {
        let mut rights = self.rights();
        rights.published = run.published().collect();
        rights.candidates = run.candidates().collect();
        rights.validators = run
            .members()
            .present(Role::Validator)
            .map(|(a, _)| a)
            .collect();
        let bytes = run.setup().delta_bytes;
        rights.deltas = run
            .awaited_deltas()
            .map(|(trainer, delta)| (trainer, (delta, bytes)))
            .collect();
        let fresh: Vec<_> = rights.deltas.values().map(|(delta, _)| *delta).collect();
        rights.seen.extend(fresh);
    }

    /// The deltas of rounds that are over. Where updates are buffered, what has come of those that
    /// were too late stays for one round more.
    pub(super) fn take_finished_deltas(&self, run: &Run) -> BTreeSet<BlobHash> {
        let mut rights = self.rights();
        let seen = std::mem::take(&mut rights.seen);
        let late = match run.setup().spec.aggregation.staleness_limit() {
            0 => BTreeSet::new(),
            _ => &seen - &run.decided_deltas().collect(),
        };
        let mut finished = std::mem::replace(&mut rights.late, late);
        finished.extend(seen);
        finished.retain(|blob| !rights.published.contains(blob) && !rights.late.contains(blob));
        finished
    }

    fn rights(&self) -> MutexGuard<'_, Rights> {
        // Rights are replaced whole, so a panic elsewhere cannot have left them half changed.
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobPolicy for Access {
    fn may_read(&self, peer: Address, blob: &BlobHash) -> bool {
        let rights = self.rights();
        rights.published.contains(blob)
            || (rights.candidates.contains(blob) && rights.validators.contains(&peer))
    }

    fn may_write(&self, peer: Address, blob: &BlobHash, len: u64) -> Result<(), String> {
        match self.rights().deltas.get(&peer) {
            Some((delta, bytes)) if delta == blob && *bytes == len => Ok(()),
            Some((delta, bytes)) => Err(format!(
                "announced was {delta} with {bytes} bytes, not {blob} with {len}"
            )),
            None => Err("no delta is waited for from this node".into()),
        }
    }

    fn arriving(&self, peer: Address, _blob: &BlobHash) {
        // Progress is throttled by the state machine; if the inbox is full, the next chunk tells.
        let _ = self.inputs.try_send(Input::Arriving { trainer: peer });
    }

    fn written(&self, peer: Address, blob: &BlobHash, _len: u64) {
        let (inputs, delivered) = (
            self.inputs.clone(),
            Input::Delivered {
                trainer: peer,
                delta: *blob,
            },
        );
        tokio::spawn(async move { inputs.send(delivered).await });
    }
}
