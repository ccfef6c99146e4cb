//! The aggregator's memory: an SQLite database in a folder of its own, one writer, every write
//! on disk before the call returns.
//!
//! It holds the log of events, from which the round is replayed, and what others may ask for
//! later: reports and payouts.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoke_protocol::codec;
use convoke_protocol::ids::{Digest, Millis};
use convoke_protocol::message::RoundReport;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row};

use crate::error::AggregatorError;

/// The database's name in its folder.
pub const DATABASE_FILE: &str = "aggregator.sqlite";

/// Events in one answer of [`Store::events_after`], at most.
pub const EVENTS_PAGE: u32 = 1_024;

/// One event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its place in the log, from 1, without gaps.
    pub number: i64,
    /// When it was handled.
    pub at: Millis,
    /// The event as it was appended.
    pub bytes: Vec<u8>,
}

/// The open database. Clones share it; the folder is free again when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
    folder: PathBuf,
    /// Held for as long as the store is.
    _lock: std::sync::Arc<File>,
}

impl Store {
    /// Opens the database in `folder`; both are made if they are not there.
    ///
    /// # Errors
    /// [`AggregatorError::InUse`] if another aggregator has it open,
    /// [`AggregatorError::Version`] if a newer program wrote it.
    pub async fn open(folder: &Path) -> Result<Self, AggregatorError> {
        std::fs::create_dir_all(folder).map_err(AggregatorError::file(folder))?;
        let lock = lock(folder)?;
        let path = folder.join(DATABASE_FILE);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        // One connection: SQLite has one writer at a time in any case.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(database(&path))?;
        let store = Self {
            pool,
            path,
            folder: folder.to_owned(),
            _lock: std::sync::Arc::new(lock),
        };
        store.create_tables().await?;
        Ok(store)
    }

    /// Binds the folder to a task's set-up, once.
    ///
    /// # Errors
    /// [`AggregatorError::OtherTask`] if it is bound to another one.
    pub async fn bind(&self, setup: &Digest) -> Result<(), AggregatorError> {
        let Some(bytes) = self.meta(SETUP_KEY).await? else {
            return self.set_meta(SETUP_KEY, &setup.0).await;
        };
        let got = <[u8; 32]>::try_from(bytes.as_slice())
            .map(Digest)
            .map_err(|_| self.corrupt(format!("meta.{SETUP_KEY} has {} bytes", bytes.len())))?;
        if got == *setup {
            return Ok(());
        }
        Err(AggregatorError::OtherTask {
            path: self.folder.clone(),
            got,
            expected: *setup,
        })
    }

    /// Appends an event to the log. On disk when this returns.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn append_event(&self, at: Millis, bytes: &[u8]) -> Result<(), AggregatorError> {
        sqlx::query("INSERT INTO event (at_ms, bytes) VALUES (?, ?)")
            .bind(at.0.cast_signed())
            .bind(bytes)
            .execute(&self.pool)
            .await
            .map_err(self.failed())?;
        Ok(())
    }

    /// The events after the given number (0 for the first ones), in order, at most
    /// [`EVENTS_PAGE`] of them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn events_after(&self, number: i64) -> Result<Vec<LoggedEvent>, AggregatorError> {
        let rows = sqlx::query(
            "SELECT number, at_ms, bytes FROM event WHERE number > ? ORDER BY number LIMIT ?",
        )
        .bind(number)
        .bind(EVENTS_PAGE)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed())?;
        let event = |row: sqlx::sqlite::SqliteRow| {
            Ok(LoggedEvent {
                number: row.try_get(0)?,
                at: Millis(row.try_get::<i64, _>(1)?.cast_unsigned()),
                bytes: row.try_get(2)?,
            })
        };
        let events: Result<Vec<LoggedEvent>, sqlx::Error> = rows.into_iter().map(event).collect();
        events.map_err(self.failed())
    }

    /// The whole log, in order.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn events(&self) -> Result<Vec<LoggedEvent>, AggregatorError> {
        let mut events: Vec<LoggedEvent> = Vec::new();
        loop {
            let last = events.last().map_or(0, |event| event.number);
            let page = self.events_after(last).await?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }

    /// Sets a named value.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), AggregatorError> {
        sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")
            .bind(key)
            .bind(value)
            .execute(&self.pool)
            .await
            .map_err(self.failed())?;
        Ok(())
    }

    /// A named value, if it was set.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, AggregatorError> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
            .bind(key)
            .fetch_optional(&self.pool)
            .await
            .map_err(self.failed())
    }

    /// Saves a round's report, in the place of any that was saved before.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn save_report(&self, report: &RoundReport) -> Result<(), AggregatorError> {
        sqlx::query("INSERT OR REPLACE INTO report (round, bytes) VALUES (?, ?)")
            .bind(report.round.0)
            .bind(self.encode(report)?)
            .execute(&self.pool)
            .await
            .map_err(self.failed())?;
        Ok(())
    }

    /// Every report, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn reports(&self) -> Result<Vec<RoundReport>, AggregatorError> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM report ORDER BY round")
            .fetch_all(&self.pool)
            .await
            .map_err(self.failed())?;
        rows.iter().map(|bytes| self.decode(bytes)).collect()
    }

    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn create_tables(&self) -> Result<(), AggregatorError> {
        let failed = self.failed();
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        if version > SCHEMA_VERSION {
            return Err(AggregatorError::Version {
                path: self.path.clone(),
                got: version,
                known: SCHEMA_VERSION,
            });
        }
        if version == 0 {
            let set_version = AssertSqlSafe(format!("PRAGMA user_version = {SCHEMA_VERSION}"));
            sqlx::raw_sql(SCHEMA)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
            sqlx::raw_sql(set_version)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    fn failed(&self) -> impl Fn(sqlx::Error) -> AggregatorError + use<> {
        database(&self.path)
    }

    fn corrupt(&self, reason: String) -> AggregatorError {
        let path = self.path.clone();
        AggregatorError::Corrupt { path, reason }
    }

    fn encode<T: serde::Serialize>(&self, value: &T) -> Result<Vec<u8>, AggregatorError> {
        codec::encode(value).map_err(|error| self.corrupt(error.to_string()))
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, AggregatorError> {
        codec::decode(bytes).map_err(|error| self.corrupt(error.to_string()))
    }
}

/// A lock of the operating system's: it is gone with the process, however that ends.
fn lock(folder: &Path) -> Result<File, AggregatorError> {
    let path = folder.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(AggregatorError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AggregatorError::InUse {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(AggregatorError::File { path, source }),
    }
}

fn database(path: &Path) -> impl Fn(sqlx::Error) -> AggregatorError + use<> {
    let path = path.to_owned();
    move |source| AggregatorError::Database {
        path: path.clone(),
        source,
    }
}

/// Others than ourselves (a backup, the `sqlite3` shell) may hold the file for so long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const LOCK_FILE: &str = "aggregator.lock";

const SETUP_KEY: &str = "setup";

const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;
CREATE TABLE report (
    round INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::ids::{Address, BlobHash, RoundId};

    use super::*;

    fn report(round: u32) -> RoundReport {
        RoundReport {
            round: RoundId(round),
            base: BlobHash([1; 32]),
            checkpoint: BlobHash([2; 32]),
            states: vec![],
            control: None,
            broadcast: None,
            record: None,
            base_loss_micros: 3,
            base_accuracy_ppm: 4,
            kept: Vec::new(),
            refused: Vec::new(),
            absent: vec![Address([5; 20])],
            validators: Vec::new(),
        }
    }

    #[tokio::test]
    async fn events_come_back_in_order_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let count = EVENTS_PAGE + 3;
        let store = Store::open(dir.path()).await.unwrap();
        assert!(store.events().await.unwrap().is_empty());
        for i in 0..count {
            let at = Millis(1_000 + u64::from(i));
            store.append_event(at, &i.to_le_bytes()).await.unwrap();
        }
        store.close().await;
        drop(store);
        let store = Store::open(dir.path()).await.unwrap();
        let events = store.events().await.unwrap();
        assert_eq!(events.len(), count as usize);
        for (i, event) in (0..count).zip(&events) {
            assert_eq!(event.number, i64::from(i) + 1);
            assert_eq!(event.at, Millis(1_000 + u64::from(i)));
            assert_eq!(event.bytes, i.to_le_bytes());
        }
        let page = store.events_after(2).await.unwrap();
        assert_eq!((page.len(), page[0].number), (EVENTS_PAGE as usize, 3));
    }

    #[tokio::test]
    async fn two_aggregators_cannot_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).await.unwrap();
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, AggregatorError::InUse { .. }), "{error}");
        let folder = dir.path().display().to_string();
        assert!(error.to_string().contains(&folder), "{error}");
        drop(first);
        Store::open(dir.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_belongs_to_one_task() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.bind(&Digest([1; 32])).await.unwrap();
        store.bind(&Digest([1; 32])).await.unwrap();
        let error = store.bind(&Digest([2; 32])).await.unwrap_err();
        assert!(
            matches!(error, AggregatorError::OtherTask { .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn values_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.meta("a").await.unwrap(), None);
        for value in [b"1", b"2"] {
            store.set_meta("a", value).await.unwrap();
        }
        assert_eq!(store.meta("a").await.unwrap().unwrap(), b"2");
    }

    #[tokio::test]
    async fn reports_come_back_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        for round in [2, 1, 2] {
            store.save_report(&report(round)).await.unwrap();
        }
        assert_eq!(store.reports().await.unwrap(), [report(1), report(2)]);
    }

    #[tokio::test]
    async fn a_newer_or_broken_database_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 7")
            .execute(&store.pool)
            .await
            .unwrap();
        store.close().await;
        drop(store);
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(
            matches!(error, AggregatorError::Version { got: 7, .. }),
            "{error}"
        );

        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DATABASE_FILE), [7; 4_096]).unwrap();
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, AggregatorError::Database { .. }), "{error}");
        assert!(error.to_string().contains(DATABASE_FILE), "{error}");
    }

    /// Every write is on disk when the call returns, and no reader can undo that.
    #[tokio::test]
    async fn writes_are_durable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let pragma = |name: &'static str| {
            let sql = AssertSqlSafe(format!("PRAGMA {name}"));
            let pool = store.pool.clone();
            async move { sqlx::query(sql).fetch_one(&pool).await.unwrap() }
        };
        assert_eq!(pragma("journal_mode").await.get::<String, _>(0), "wal");
        assert_eq!(pragma("synchronous").await.get::<i64, _>(0), 2);
        assert_eq!(pragma("foreign_keys").await.get::<i64, _>(0), 1);
    }
}
