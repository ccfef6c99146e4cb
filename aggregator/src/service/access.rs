//! Who may read and write which blobs now. A snapshot of the state machine's answers, shared
//! with the connections' tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use convoke_protocol::ids::{Address, BlobHash, Role};
use convoke_protocol::round::Run;
use convoke_sketch::Inspector;
use convoke_transport::{BlobPolicy, BlobSink};
use tokio::sync::mpsc;

use super::deltas::Deltas;
use super::input::Input;
use super::jobs::Measured;

/// The blob policy of the aggregator.
#[derive(Clone)]
pub(super) struct Access {
    rights: Arc<Mutex<Rights>>,
    /// When we last heard, and told, that a trainer's delta is arriving.
    told: Arc<Mutex<BTreeMap<Address, Instant>>>,
    incoming: Deltas,
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
    /// For such deltas.
    pub(super) fn new(incoming: Deltas, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            rights: Arc::default(),
            told: Arc::default(),
            incoming,
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
        self.told()
            .retain(|trainer, _| rights.deltas.contains_key(trainer));
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

    fn told(&self) -> MutexGuard<'_, BTreeMap<Address, Instant>> {
        // Nothing panics while it is locked.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rights(&self) -> MutexGuard<'_, Rights> {
        // Rights are replaced whole, so a panic elsewhere cannot have left them half changed.
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trainer's progress is passed on so often at most: packets come by the thousand.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A delta that has arrived whole.
pub(super) struct Delivery {
    pub(super) trainer: Address,
    pub(super) delta: BlobHash,
    /// What was found in it on the way; nothing if it was here before.
    pub(super) measured: Option<Measured>,
}

/// Measures a delta while it arrives; but not an encoded one, which is measured when it is decoded.
pub(super) struct Measuring(Option<Inspector>);

impl BlobSink for Measuring {
    fn feed(&mut self, bytes: &[u8]) {
        if let Some(inspector) = &mut self.0 {
            inspector.feed(bytes);
        }
    }
}

impl BlobPolicy for Access {
    type Sink = Measuring;

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
        let now = Instant::now();
        let mut told = self.told();
        if told.get(&peer).is_some_and(|last| now - *last < TELL_EVERY) {
            return;
        }
        // If the inbox is full, the next packet tells.
        if self
            .inputs
            .try_send(Input::Arriving { trainer: peer })
            .is_ok()
        {
            told.insert(peer, now);
        }
    }

    fn sink(&self, _peer: Address, _blob: &BlobHash, length: u64) -> Measuring {
        Measuring(self.incoming.inspector(length))
    }

    fn written(&self, peer: Address, blob: &BlobHash, _length: u64, sink: Option<Measuring>) {
        let (inputs, delivered) = (
            self.inputs.clone(),
            Input::Delivered(Delivery {
                trainer: peer,
                delta: *blob,
                measured: sink.and_then(|sink| sink.0).map(Inspector::finish),
            }),
        );
        tokio::spawn(async move { inputs.send(delivered).await });
    }
}
