//! Where the files come from: a folder, or the aggregator, which is asked as any observer would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use convoke_client::Chain;
use convoke_node::{Link, LinkEvent};
use convoke_protocol::ids::{BlobHash, TaskId};
use convoke_transport::{BlobStore, Connection};

use super::deltas::hash_of;
use crate::live::observer;

/// Longest wait for the aggregator's welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);

/// A folder of files named by their hashes, the aggregator, or both.
pub(crate) struct Blobs {
    folder: Option<PathBuf>,
    served: Option<Served>,
}

struct Served {
    /// Kept: dropping it ends the connection.
    _link: Link,
    connection: Connection,
    store: BlobStore,
    _dir: tempfile::TempDir,
}

impl Blobs {
    /// Connects to the aggregator, if one is named.
    pub(crate) async fn open(
        chain: &Chain,
        task: TaskId,
        aggregator: Option<String>,
        folder: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let served = match aggregator {
            None => None,
            Some(aggregator) => Some(serve(chain, task, aggregator).await?),
        };
        Ok(Self { folder, served })
    }

    /// The file of a blob of at most so many bytes, or why there is none.
    pub(crate) async fn find(&self, blob: &BlobHash, most: u64) -> Result<PathBuf, String> {
        if let Some(path) = self.in_folder(blob) {
            return Ok(path);
        }
        let Some(served) = &self.served else {
            return Err("it is not in the folder, and no aggregator is named".into());
        };
        let Served {
            connection, store, ..
        } = served;
        match connection.fetch_blob(blob, most, store, |_| ()).await {
            Ok(()) => Ok(store.path(blob)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn in_folder(&self, blob: &BlobHash) -> Option<PathBuf> {
        let folder = self.folder.as_deref()?;
        let name = blob.to_file_name();
        let names = [name.clone(), format!("{name}.safetensors")];
        let there = |path: &PathBuf| is_blob(path, blob);
        names.iter().map(|name| folder.join(name)).find(there)
    }
}

fn is_blob(path: &Path, blob: &BlobHash) -> bool {
    path.is_file() && hash_of(path).is_ok_and(|hash| hash == *blob)
}

async fn serve(chain: &Chain, task: TaskId, aggregator: String) -> anyhow::Result<Served> {
    let mut link = observer::dial(chain, task, aggregator.clone()).await?;
    let welcome = async {
        loop {
            match link.next().await? {
                LinkEvent::Connected { .. } => return anyhow::Ok(()),
                LinkEvent::Disconnected { reason } => tracing::warn!(reason, "dialling again"),
                LinkEvent::Message(_) => {}
            }
        }
    };
    tokio::time::timeout(WELCOME_TIMEOUT, welcome)
        .await
        .map_err(|_| anyhow!("no answer of the aggregator at {aggregator}"))??;
    let connection = link.handle().connection().await;
    let connection = connection.context("the aggregator closed the connection")?;
    let dir = tempfile::tempdir().context("cannot make a folder for files")?;
    Ok(Served {
        connection,
        store: BlobStore::open(dir.path())?,
        _link: link,
        _dir: dir,
    })
}
