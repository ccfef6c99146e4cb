//! A node that comes back on a new connection while its old one is still being cleared away.

#![allow(clippy::unwrap_used)]

mod common;

use convoke_transport::Limits;

use self::common::{Folder, client, content, join, serve, server, within};

/// Each takes its chance in the moment that the replaced connection needs to let go of the blob.
const ATTEMPTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_the_connection_that_replaces_another_is_not_refused_for_the_old_one() {
    let (client, server) = (client(Limits::default()), server(Limits::default()));
    for attempt in 0..ATTEMPTS {
        let (from, to) = (Folder::new(), Folder::new());
        let blob = from.store.insert_bytes(&content(4 << 20)).unwrap();
        let (mine, old) = join(&client, &server).await;
        let mut seen = serve(&old, &to.store, true);
        let store = from.store.clone();
        let first = tokio::spawn(async move { mine.push_blob(&blob, &store, |_| {}).await });
        within(seen.recv()).await.unwrap();
        let (mine, new) = join(&client, &server).await;
        let _seen = serve(&new, &to.store, true);
        old.close("replaced by a newer connection");
        within(mine.push_blob(&blob, &from.store, |_| {}))
            .await
            .unwrap_or_else(|error| panic!("attempt {attempt}: {error}"));
        let _ = within(first).await;
    }
}
