//! The file, and the thread that works in it.

use std::{
    fmt,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use browserfleet_common::{
    keyring::{Keyring, random_secret},
    secret_file::BadFile,
};
use rusqlite::{Connection, ErrorCode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::Unavailable;

/// Names in the directory.
const FILE: &str = "state.sqlite3";
const SECRET: &str = "secret";
/// Jobs that wait for the thread; more wait outside.
const QUEUE: usize = 256;
/// Most time for a job, its wait in the queue included: a disk may stop answering.
const LIMIT: Duration = Duration::from_secs(5);
/// The form of the tables. Another one is not touched.
const VERSION: i64 = 1;

/// Why a state directory is not used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BadStateDir {
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Secret(#[from] BadFile),
    #[error("{path}: another program uses it; give each a directory of its own", path = .path.display())]
    InUse { path: PathBuf },
    #[error("{path}: written by another version of this program (form {found}, ours is {VERSION}); use another directory", path = .path.display())]
    Version { path: PathBuf, found: i64 },
    #[error("{path}: {error}", path = .path.display())]
    Sqlite { path: PathBuf, error: rusqlite::Error },
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A database that one thread works in, one job after another. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct Database {
    jobs: mpsc::Sender<Job>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the database of a directory, and the secret that seals what is in it; both are made if they are not there. Nobody
    /// else on the machine can read them.
    ///
    /// # Errors
    /// When they cannot be made or read, or another program has them open.
    pub fn open(directory: &Path) -> Result<(Self, Keyring), BadStateDir> {
        let failed = |error| BadStateDir::Io { path: directory.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        // Opened before the secret is looked at: who has it open is alone in here.
        let connection = connect(&directory.join(FILE))?;
        let keyring = secret(&directory.join(SECRET))?;
        Ok((Self::start(connection).map_err(failed)?, keyring))
    }

    fn start(mut connection: Connection) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        };
        std::thread::Builder::new().name("sqlite".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Does something in one transaction: all of it or nothing.
    ///
    /// # Errors
    /// When it cannot be done, then nothing was; or not in time, then it may still be.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.transaction().and_then(|transaction| {
                let result = work(&transaction)?;
                transaction.commit()?;
                Ok(result)
            });
            // Whoever asked may have gone away.
            let _gone = tell.send(result);
        });
        let ended = || Unavailable { what, cause: Some("its thread has ended".into()) };
        let done = async {
            self.jobs.send(job).await.map_err(|_ended| ended())?;
            told.await.map_err(|_ended| ended())?.map_err(Unavailable::because(what))
        };
        let late = |_elapsed| Unavailable { what, cause: Some("it did not answer in time".into()) };
        timeout(LIMIT, done).await.map_err(late)?
    }
}

fn connect(file: &Path) -> Result<Connection, BadStateDir> {
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => BadStateDir::InUse { path: file.to_owned() },
        _ => BadStateDir::Sqlite { path: file.to_owned(), error },
    };
    // Made by us, so that it is ours alone from its first moment.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    made.map_err(|error| BadStateDir::Io { path: file.to_owned(), error })?;
    let connection = Connection::open(file).map_err(failed)?;
    connection.busy_timeout(Duration::ZERO).map_err(failed)?;
    // Held from the first access to the end. A crash loses nothing that was committed, a power cut the last moments.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    // What was removed is gone.
    connection.pragma_update(None, "secure_delete", true).map_err(failed)?;
    match connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)? {
        0 => {
            connection.execute_batch(include_str!("tables.sql")).map_err(failed)?;
            connection.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        VERSION => {}
        found => return Err(BadStateDir::Version { path: file.to_owned(), found }),
    }
    Ok(connection)
}

fn secret(file: &Path) -> Result<Keyring, BadStateDir> {
    let failed = |error| BadStateDir::Io { path: file.to_owned(), error };
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(file) {
        Ok(mut new) => {
            let written = new.write_all(random_secret().as_bytes()).and_then(|()| new.sync_all());
            if let Err(error) = written {
                // Half a secret would be taken for one at the next start.
                let _gone = fs::remove_file(file);
                return Err(failed(error));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(Keyring::read(file)?)
}

/// A duration as it is stored.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("these types are plain data with text keys")
}

/// A column of JSON.
pub(super) fn parsed<T: DeserializeOwned>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_for_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let (_database, _) = Database::open(&path).unwrap();
        for file in [FILE, SECRET, &format!("{FILE}-wal")] {
            let mode = fs::metadata(path.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }

    #[tokio::test]
    async fn one_program_at_a_time_and_the_secret_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (database, keyring) = Database::open(directory.path()).unwrap();
        let second = Database::open(directory.path()).unwrap_err();
        assert!(matches!(second, BadStateDir::InUse { .. }), "{second}");
        // The thread ends when nobody wants it any more.
        drop(database);
        let opened = || Database::open(directory.path()).ok();
        let mut again = opened();
        for _ in 0..200 {
            if again.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            again = opened();
        }
        let sealed = keyring.seal("test", b"me", b"x");
        assert_eq!(again.unwrap().1.open("test", b"me", &sealed, 9), Ok(b"x".to_vec()));
    }

    #[test]
    fn what_another_version_wrote_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        drop(connect(&directory.path().join(FILE)).unwrap());
        let other = Connection::open(directory.path().join(FILE)).unwrap();
        other.pragma_update(None, "user_version", 2).unwrap();
        drop(other);
        let told = Database::open(directory.path()).unwrap_err().to_string();
        assert!(told.contains("another version"), "{told}");
        fs::write(directory.path().join(FILE), "no database at all, and longer than its header would be").unwrap();
        assert!(Database::open(directory.path()).is_err());
    }
}
