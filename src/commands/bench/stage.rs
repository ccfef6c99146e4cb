//! What benchmarks of the aggregator need around it: a chain with a task, and the process itself.

use std::path::Path;

use anyhow::Context as _;
use convoke_client::{Chain, DeployOptions, ProofCheck};
use convoke_devnet::{Config, DEFAULT_CHAIN_ID, Devnet};
use convoke_models::{Parameters, TensorSpec};
use convoke_node::{Link, LinkConfig};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Amount, BlobHash, Role, TaskId};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::task::{ProofMode, TaskSpec};
use convoke_transport::{Endpoint, Limits};

use crate::commands::{chain, task};
use crate::keys;
use crate::processes::Processes;

/// Names the aggregator's process and its folder.
pub(super) const AGGREGATOR: &str = "aggregator";

/// A chain with a task on it whose model is one tensor.
pub(super) struct Stage {
    pub(super) task: TaskId,
    pub(super) domain: PayoutDomain,
    pub(super) checkpoint_bytes: u64,
    aggregator: Wallet,
    _devnet: Devnet,
}

impl Stage {
    /// Of a model of `parameters`, with what `adjust` makes of the task's settings. The chain takes
    /// any proof, so that none is made: `convoke bench prove` has what one costs.
    pub(super) async fn prepare(
        dir: &Path,
        parameters: usize,
        adjust: impl FnOnce(&mut TaskSpec),
    ) -> anyhow::Result<Self> {
        let (creator, aggregator) = (keys::random()?, keys::random()?);
        keys::store(&dir.join("aggregator.key"), &aggregator)?;
        let coin = 10u128.pow(21).try_into().context("coin")?;
        let funded = [&creator, &aggregator]
            .map(|w| (w.address().0.into(), coin))
            .to_vec();
        let listen = "127.0.0.1:0".parse().context("loopback")?;
        let config = Config {
            listen,
            journal: None,
            chain_id: DEFAULT_CHAIN_ID,
            funded,
        };
        let devnet = Devnet::start(config).await?;
        let supply = Amount(10u128.pow(24));
        let options = DeployOptions {
            proofs: ProofCheck::Unchecked,
            ..DeployOptions::new(supply)
        };
        let book = chain::deploy(&devnet.url(), &creator, options).await?;
        book.save(&dir.join("chain.toml"))?;
        let chain = Chain::connect(&book, Some(&creator)).await?;

        let checkpoint = tensor(vec![0.0; parameters])?;
        std::fs::write(dir.join("initial.safetensors"), &checkpoint).context("cannot write")?;
        let mut spec = TaskSpec::parse("name = \"bench\"\n[model]\nkind = \"mlp\"\n")?;
        spec.initial = Some(BlobHash::of(&checkpoint));
        spec.reward.pool = Amount(1_000_000_000);
        spec.reward.proof = ProofMode::OnSubmission;
        spec.reward.dispute_window_s = 0;
        adjust(&mut spec);
        let task = task::create(&chain, &spec, aggregator.address()).await?;
        Ok(Self {
            task,
            domain: chain.domain(),
            aggregator,
            checkpoint_bytes: checkpoint.len() as u64,
            _devnet: devnet,
        })
    }

    /// Starts the aggregator, and gives the address that it listens on.
    pub(super) async fn start_aggregator(
        &self,
        processes: &mut Processes,
        dir: &Path,
    ) -> anyhow::Result<String> {
        let file = |name: &str| dir.join(name).into_os_string();
        let line = [
            "aggregator".into(),
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--task".into(),
            self.task.to_string().into(),
            "--initial".into(),
            file("initial.safetensors"),
            "--key".into(),
            file("aggregator.key"),
            "--chain".into(),
            file("chain.toml"),
            "--dir".into(),
            file(AGGREGATOR),
        ];
        processes.start_listening(AGGREGATOR, line.into()).await
    }

    /// A node that dials the aggregator.
    pub(super) fn link(&self, wallet: Wallet, address: &str, role: Role) -> anyhow::Result<Link> {
        let endpoint = Endpoint::client(wallet, Limits::default())?;
        let config = LinkConfig {
            aggregator: address.to_owned(),
            expected: self.aggregator.address(),
            task: self.task,
            role,
        };
        Ok(Link::open(endpoint, config))
    }
}

/// A safetensors file with one tensor.
pub(super) fn tensor(values: Vec<f32>) -> anyhow::Result<Vec<u8>> {
    let layout = vec![TensorSpec {
        name: "w".into(),
        shape: vec![values.len()],
    }];
    Ok(Parameters::new(layout, values)?.to_safetensors())
}
