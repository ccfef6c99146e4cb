//! Connected nodes: admission, one task a connection for what it says, one for what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use convoke_client::Chain;
use convoke_protocol::ids::{Address, Amount, Role, TaskId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage};
use convoke_protocol::round::Setup;
use convoke_protocol::task::StakeSpec;
use convoke_transport::{BlobStore, Connection, Endpoint, Receiver, Sender};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Input;
use super::access::Access;

/// Messages that wait for one peer at most. Who reads slower is disconnected, and is told
/// what matters anew when it comes back.
const OUTBOX_MAX: usize = 256;

/// A new peer has so long to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Observers that may watch at one time.
const OBSERVERS_MAX: usize = 256;

/// What happens on connections.
pub(super) enum PeerEvent {
    Joined(Peer),
    Left {
        address: Address,
        connection: u64,
    },
    Said {
        address: Address,
        message: NodeMessage,
    },
}

/// An admitted node.
pub(super) struct Peer {
    pub(super) address: Address,
    pub(super) role: Role,
    pub(super) stake: Amount,
    connection: u64,
    outbox: mpsc::Sender<Arc<AggregatorMessage>>,
    handle: Connection,
}

/// All admitted nodes that are connected now.
pub(super) struct Peers {
    by_address: BTreeMap<Address, Peer>,
}

impl Peers {
    /// Begins to accept connections.
    pub(super) fn listen(
        endpoint: Endpoint,
        chain: Chain,
        setup: &Setup,
        blobs: BlobStore,
        access: Access,
        inputs: mpsc::Sender<Input>,
        stop: CancellationToken,
    ) -> Self {
        let door = Arc::new(Door {
            chain,
            task: setup.task,
            stakes: setup.spec.stake.clone(),
            blobs,
            access,
            inputs,
            connections: AtomicU64::new(0),
        });
        tokio::spawn(async move {
            loop {
                let incoming = tokio::select! {
                    () = stop.cancelled() => return,
                    incoming = endpoint.accept() => incoming,
                };
                let Some(incoming) = incoming else { return };
                let door = door.clone();
                tokio::spawn(async move {
                    match incoming.handshake().await {
                        Ok(connection) => door.receive(connection).await,
                        Err(error) => tracing::debug!(%error, "handshake failed"),
                    }
                });
            }
        });
        Self {
            by_address: BTreeMap::new(),
        }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.by_address.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Adds a node and welcomes it. A second connection of one address replaces the first:
    /// after a break the peer may know of it before we do.
    pub(super) fn add(&mut self, peer: Peer, welcome: &AggregatorMessage) {
        let observers = self
            .by_address
            .values()
            .filter(|p| p.role == Role::Observer)
            .count();
        if peer.role == Role::Observer && observers >= OBSERVERS_MAX {
            peer.handle.close("too many observers");
            return;
        }
        let address = peer.address;
        if let Some(old) = self.by_address.insert(address, peer) {
            old.handle.close("replaced by a newer connection");
        }
        self.tell(address, welcome);
    }

    /// Removes a node if `connection` is its present one; gives the role that it had.
    pub(super) fn remove(&mut self, address: Address, connection: u64) -> Option<Role> {
        let present = self.by_address.get(&address)?.connection == connection;
        if !present {
            return None;
        }
        self.by_address.remove(&address).map(|peer| peer.role)
    }

    pub(super) fn tell(&mut self, to: Address, message: &AggregatorMessage) {
        if let Some(peer) = self.by_address.get(&to) {
            peer.post(Arc::new(message.clone()));
        }
    }

    pub(super) fn announce(&mut self, message: &AggregatorMessage) {
        let message = Arc::new(message.clone());
        for peer in self.by_address.values() {
            peer.post(message.clone());
        }
    }
}

impl Peer {
    fn post(&self, message: Arc<AggregatorMessage>) {
        if self.outbox.try_send(message).is_err() {
            self.handle.close("reads too slowly");
        }
    }
}

/// Admits connections.
struct Door {
    chain: Chain,
    task: TaskId,
    stakes: StakeSpec,
    blobs: BlobStore,
    access: Access,
    inputs: mpsc::Sender<Input>,
    connections: AtomicU64,
}

impl Door {
    async fn receive(&self, connection: Connection) {
        let address = connection.peer();
        let Ok((mut sender, mut receiver)) = connection.messages() else {
            return;
        };
        let (role, stake) = match self.admit(address, &mut receiver).await {
            Ok(admitted) => admitted,
            Err(reason) => {
                tracing::info!(peer = %address, %reason, "node refused");
                // Nobody waits for ever for a peer that does not read.
                let refusal = AggregatorMessage::Rejected { reason };
                let farewell = sender.send(&refusal);
                if let Ok(Ok(())) = tokio::time::timeout(HELLO_TIMEOUT, farewell).await {
                    sender.finish().await;
                }
                connection.close("refused");
                return;
            }
        };
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let (outbox, letters) = mpsc::channel(OUTBOX_MAX);
        let handle = connection.clone();
        let peer = Peer {
            address,
            role,
            stake,
            connection: number,
            outbox,
            handle,
        };
        if self
            .inputs
            .send(Input::Peer(PeerEvent::Joined(peer)))
            .await
            .is_err()
        {
            return;
        }
        let blobs = connection.serve_blobs(self.blobs.clone(), self.access.clone());
        tokio::select! {
            () = self.listen(address, &mut receiver) => {}
            () = deliver(letters, sender) => {}
            () = blobs => {}
        }
        connection.close("bye");
        let left = PeerEvent::Left {
            address,
            connection: number,
        };
        let _ = self.inputs.send(Input::Peer(left)).await;
    }

    /// Waits for the hello and checks that the node has staked enough for its role.
    async fn admit(
        &self,
        address: Address,
        receiver: &mut Receiver,
    ) -> Result<(Role, Amount), String> {
        let hello = tokio::time::timeout(HELLO_TIMEOUT, receiver.recv::<NodeMessage>())
            .await
            .map_err(|_| "no hello in time".to_owned())?
            .map_err(|error| error.to_string())?;
        let Some(NodeMessage::Hello { task, role }) = hello else {
            return Err("the first message must be a hello".into());
        };
        if task != self.task {
            return Err(format!(
                "this is the aggregator of task {}, not {task}",
                self.task
            ));
        }
        let needed = match role {
            Role::Observer => return Ok((role, Amount::ZERO)),
            Role::Trainer => self.stakes.trainer,
            Role::Validator => self.stakes.validator,
            Role::Aggregator => return Err("the task has its aggregator".into()),
        };
        self.check_stake(address, role, needed).await
    }

    async fn check_stake(
        &self,
        address: Address,
        role: Role,
        needed: Amount,
    ) -> Result<(Role, Amount), String> {
        let unknown = |error| format!("the stake cannot be looked up now: {error}");
        let staked = self.chain.stake_of(self.task, address).await;
        match staked.map_err(unknown)? {
            Some((staked_role, amount)) if staked_role == role && amount >= needed => {
                // Delegation adds to the weight, and not to what entitles to a role.
                let weight = self.chain.effective_stake(self.task, address).await;
                Ok((role, weight.map_err(unknown)?))
            }
            Some((staked_role, _)) if staked_role != role => Err(format!(
                "{address} has staked as {staked_role}, not as {role}"
            )),
            // A task that asks for no stake takes nodes that have none.
            None if needed == Amount::ZERO => Ok((role, Amount::ZERO)),
            other => {
                let got = other.map_or(Amount::ZERO, |(_, amount)| amount);
                Err(format!(
                    "{address} has staked {got} base units as {role}, {needed} are needed: \
                     run `convoke stake deposit --task {} --role {role}` first",
                    self.task
                ))
            }
        }
    }

    /// Passes on what the peer says until it is gone or says something malformed.
    async fn listen(&self, address: Address, receiver: &mut Receiver) {
        loop {
            let message = match receiver.recv().await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(peer = %address, %error, "connection ended");
                    return;
                }
            };
            let said = PeerEvent::Said { address, message };
            if self.inputs.send(Input::Peer(said)).await.is_err() {
                return;
            }
        }
    }
}

async fn deliver(mut letters: mpsc::Receiver<Arc<AggregatorMessage>>, mut sender: Sender) {
    while let Some(message) = letters.recv().await {
        if sender.send(message.as_ref()).await.is_err() {
            return;
        }
    }
}
