//! Watching from outside: an observer stakes nothing and needs no key of its own.

use anyhow::Context as _;
use convoke_client::Chain;
use convoke_node::{Link, LinkConfig};
use convoke_protocol::ids::{Role, TaskId};
use convoke_transport::{Endpoint, Limits};

use crate::keys;

/// Dials the aggregator of a task. It has to prove the address that the chain names.
pub(crate) async fn dial(chain: &Chain, task: TaskId, aggregator: String) -> anyhow::Result<Link> {
    let expected = chain.terms(task).await?.aggregator;
    let endpoint =
        Endpoint::client(keys::random()?, Limits::default()).context("cannot open a socket")?;
    Ok(Link::open(
        endpoint,
        LinkConfig {
            aggregator,
            expected,
            task,
            role: Role::Observer,
        },
    ))
}
