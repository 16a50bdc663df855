//! The default channel: a line of JSON at the end of `<folder>/notification-<instance>.log`.
//!
//! A line is one `write` to a file opened for appending, so lines of several writers never mix. What a dying process
//! left half written is closed off with a line break before the next line, never repaired: it was not delivered.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_stream::Clock;
use tokio::sync::Mutex;

use super::{Channel, Failure, letter};
use crate::decide::Notification;

pub struct FileChannel<C> {
    log: Arc<Mutex<Log>>,
    instance: String,
    clock: C,
}

/// A line written survives the death of the process, not that of the machine: nothing is synced to the disk.
struct Log {
    path: PathBuf,
    file: File,
    /// The file ends inside a line.
    torn: bool,
}

impl<C: Clock> FileChannel<C> {
    /// Makes the folder and the file where missing.
    pub fn open(folder: &Path, instance: &str, clock: C) -> io::Result<Self> {
        let log = Log::open(folder.join(format!("notification-{instance}.log")))?;
        Ok(Self { log: Arc::new(Mutex::new(log)), instance: instance.to_owned(), clock })
    }
}

impl<C: Clock> Channel for FileChannel<C> {
    const NAME: &'static str = "file";

    async fn deliver(&self, notification: &Notification) -> Result<(), Failure> {
        // the turn is taken here, not on the blocking thread: one slow disk must not hold many threads
        let mut log = self.log.clone().lock_owned().await;
        let line = letter(notification, &self.instance, self.clock.now());
        let written = tokio::task::spawn_blocking(move || log.append(line)).await;
        written.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(|source| Failure::Away {
            reason: match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "disk_full",
                _ => "file_error",
            },
            source: Some(source.into()),
        })
    }
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self { path, file, torn: last != *b"\n" })
    }

    /// Whether the path still leads to the open file: an operator may have moved or removed it.
    fn in_place(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if !self.in_place()? {
            *self = Self::open(self.path.clone())?;
        }
        line.push(b'\n');
        if self.torn {
            line.insert(0, b'\n');
        }
        let written = loop {
            match self.file.write(&line) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        if written > 0 {
            self.torn = written < line.len();
        }
        if written == line.len() { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{clock, notification};
    use headwater_stream::FixedClock;

    fn channel(folder: &Path) -> FileChannel<FixedClock> {
        FileChannel::open(folder, "1", clock()).unwrap()
    }

    fn lines(folder: &Path) -> Vec<String> {
        let text = fs::read_to_string(folder.join("notification-1.log")).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    fn user_of(line: &str) -> Option<String> {
        let letter: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(letter["userId"].as_str()?.to_owned())
    }

    #[tokio::test]
    async fn every_notification_is_a_line_of_its_own_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("not/yet/there");
        for n in [1, 2] {
            channel(&nested).deliver(&notification(n)).await.unwrap();
        }
        let users: Vec<_> = lines(&nested).iter().map(|line| user_of(line)).collect();
        assert_eq!(users, [Some("user-1".into()), Some("user-2".into())]);
    }

    #[tokio::test]
    async fn the_half_line_of_a_killed_process_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        channel(folder.path()).deliver(&notification(1)).await.unwrap();
        let path = folder.path().join("notification-1.log");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
        channel(folder.path()).deliver(&notification(2)).await.unwrap();
        let users: Vec<_> = lines(folder.path()).iter().map(|line| user_of(line)).collect();
        assert_eq!(users, [Some("user-1".into()), None, Some("user-2".into())]);
    }

    #[tokio::test]
    async fn a_file_moved_away_or_removed_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notification-1.log");
        let channel = channel(folder.path());
        channel.deliver(&notification(1)).await.unwrap();
        fs::rename(&path, folder.path().join("yesterday.log")).unwrap();
        channel.deliver(&notification(2)).await.unwrap();
        assert_eq!(user_of(&lines(folder.path())[0]), Some("user-2".into()));
        fs::remove_file(&path).unwrap();
        channel.deliver(&notification(3)).await.unwrap();
        assert_eq!(user_of(&lines(folder.path())[0]), Some("user-3".into()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_writers_of_one_file_never_mix_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let channels = [channel(folder.path()), channel(folder.path())];
        let all = (0..200).map(|n| {
            let channel = &channels[usize::from(n % 2)];
            async move { channel.deliver(&notification(n)).await }
        });
        futures::future::try_join_all(all).await.unwrap();
        let users: std::collections::BTreeSet<_> =
            lines(folder.path()).iter().filter_map(|line| user_of(line)).collect();
        assert_eq!(users.len(), 200);
    }

    #[tokio::test]
    async fn a_full_disk_is_a_failure_that_delivered_nothing() {
        let mut log = Log::open("/dev/null".into()).unwrap();
        log.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        log.path = "/dev/full".into();
        let channel = FileChannel { log: Arc::new(Mutex::new(log)), instance: "1".into(), clock: clock() };
        let failure = channel.deliver(&notification(1)).await.unwrap_err();
        assert!(matches!(failure, Failure::Away { reason: "disk_full", .. }), "{failure:?}");
    }
}
