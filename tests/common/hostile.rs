//! Peers that break the rules, speaking the real protocol as far as they need to.

use std::net::SocketAddr;

use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{BlobHash, Digest, Role, RoundId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage, Order};
use convoke_protocol::sketch::Norm;
use convoke_protocol::update::{SignedUpdate, UpdateHeader};
use convoke_sketch::DeltaStats;
use convoke_trainer::sketching;
use convoke_transport::{BlobStore, Connection, Endpoint, Limits, Receiver, Sender};

use super::{PATIENCE, World, wallet};

/// A trainer that does as the test says.
pub struct Peer {
    pub wallet: Wallet,
    pub connection: Connection,
    pub sender: Sender,
    pub receiver: Receiver,
    endpoint: Endpoint,
    blobs: (tempfile::TempDir, BlobStore),
}

impl Peer {
    /// Connects, proves its identity, and says hello as a trainer.
    pub async fn join(world: &World, wallet: Wallet) -> Self {
        let endpoint = Endpoint::client(wallet.clone(), Limits::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let (connection, sender, receiver) = dial(world, &endpoint).await;
        Self {
            wallet,
            connection,
            sender,
            receiver,
            endpoint,
            blobs: (dir, store),
        }
    }

    /// Connects again after a break.
    pub async fn rejoin(&mut self, world: &World) {
        (self.connection, self.sender, self.receiver) = dial(world, &self.endpoint).await;
    }

    pub fn blobs(&self) -> &BlobStore {
        &self.blobs.1
    }

    /// Waits for an order to train: round and base.
    pub async fn ordered_to_train(&mut self) -> (RoundId, BlobHash) {
        loop {
            if let AggregatorMessage::Order(Order::Train { round, base, .. }) = self.hear().await {
                return (round, base);
            }
        }
    }

    /// The header that an honest trainer would sign for `bytes`.
    pub fn header(
        &self,
        world: &World,
        round: RoundId,
        base: BlobHash,
        bytes: &[u8],
    ) -> UpdateHeader {
        let delta = self.blobs().insert_bytes(bytes).unwrap();
        let nothing = DeltaStats {
            norm: Norm::ZERO,
            root: Digest::ZERO,
        };
        // What is no delta has no measures.
        let stats = sketching::stats(self.blobs(), &delta, None).unwrap_or(nothing);
        UpdateHeader {
            task: world.task,
            round,
            base,
            delta,
            delta_root: stats.root,
            delta_bytes: bytes.len() as u64,
            delta_norm: stats.norm,
            num_examples: 100,
            train_loss_micros: 1,
        }
    }

    /// Signs and announces a header; sends the delta if it is asked for.
    pub async fn send(&mut self, world: &World, header: UpdateHeader) {
        let domain = convoke_protocol::payout::PayoutDomain {
            chain_id: world.book.chain_id,
            contract: world.book.task_manager,
        };
        let update = header.sign(&domain, &self.wallet);
        self.announce(update).await;
    }

    /// Announces an update and follows it to the aggregator's decision.
    pub async fn announce(&mut self, update: SignedUpdate) {
        let delta = update.header.delta;
        self.sender
            .send(&NodeMessage::Update(update))
            .await
            .unwrap();
        loop {
            match self.hear().await {
                AggregatorMessage::Order(Order::SendDelta { .. }) => {
                    self.connection
                        .push_blob(&delta, &self.blobs.1, |_| {})
                        .await
                        .unwrap();
                }
                AggregatorMessage::Order(
                    Order::UpdateRefused { .. } | Order::UpdateStored { .. },
                )
                | AggregatorMessage::Fault { .. } => return,
                _ => {}
            }
        }
    }

    /// The next message.
    pub async fn hear(&mut self) -> AggregatorMessage {
        let message = tokio::time::timeout(PATIENCE, self.receiver.recv());
        message.await.unwrap().unwrap().unwrap()
    }
}

async fn dial(world: &World, endpoint: &Endpoint) -> (Connection, Sender, Receiver) {
    let address: SocketAddr = world.aggregator_address().parse().unwrap();
    let connection = endpoint
        .connect(address, Some(wallet(2).address()))
        .await
        .unwrap();
    let (mut sender, receiver) = connection.messages().unwrap();
    sender
        .send(&NodeMessage::Hello {
            task: world.task,
            role: Role::Trainer,
        })
        .await
        .unwrap();
    (connection, sender, receiver)
}
