//! What was sent and what came of it, on disk before it is relied on: `var/simulate/<seed>/`.
//!
//! `parameters.json` says what was asked for, `actions.jsonl` holds every action before the first is sent, and
//! `outcomes.jsonl` one line per answer: whoever reads it later knows what was acknowledged even if this process died.
//! `poison.jsonl`, where there is one, names the records of user.events that were spoilt on purpose.
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::plan::{Action, Parameters};
use crate::Error;

/// What became of one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Acknowledged,
    /// Answered again as a duplicate, as it should be.
    Repeated,
    /// Written past the ingress.
    Straight,
    Rejected,
    /// Sent, and its answer was lost or put off: it is sent again until it is acknowledged or rejected.
    Unknown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub event_id: String,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A record of user.events that no consumer can read, put there on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Poison {
    pub partition: i32,
    pub offset: i64,
}

/// An open journal. Lines are on disk once [`Journal::sync`] has returned.
pub struct Journal {
    folder: PathBuf,
    outcomes: BufWriter<File>,
}

/// A journal that was read back.
pub struct Record {
    pub folder: PathBuf,
    pub parameters: Parameters,
    pub actions: Vec<Action>,
    pub outcomes: Vec<Line>,
    pub poison: BTreeSet<Poison>,
    /// Nothing was sent before.
    pub began_at: SystemTime,
}

const PARAMETERS: &str = "parameters.json";
const ACTIONS: &str = "actions.jsonl";
const OUTCOMES: &str = "outcomes.jsonl";
const POISON: &str = "poison.jsonl";

impl Journal {
    /// Replaces an older journal of the same seed.
    pub fn create(root: &Path, parameters: &Parameters, actions: &[Action]) -> Result<Self, Error> {
        let folder = root.join(parameters.seed.to_string());
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let path = folder.join(ACTIONS);
        let mut lines = BufWriter::new(create(&path)?);
        for action in actions {
            write_line(&mut lines, action).map_err(failed("write", &path))?;
        }
        lines.flush().and_then(|()| lines.get_ref().sync_all()).map_err(failed("write", &path))?;
        let outcomes = BufWriter::new(create(&folder.join(OUTCOMES))?);
        match fs::remove_file(folder.join(POISON)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &folder)(error)),
            _ => {}
        }
        // last, because the newest of these files names the newest journal
        let path = folder.join(PARAMETERS);
        let mut file = create(&path)?;
        let written = write_line(&mut file, parameters).and_then(|()| file.sync_all());
        written.map_err(failed("write", &path))?;
        Ok(Self { folder, outcomes })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn write(&mut self, event_id: &str, outcome: Outcome, reason: &str) -> Result<(), Error> {
        let line = Line { event_id: event_id.to_owned(), outcome, reason: reason.to_owned() };
        write_line(&mut self.outcomes, &line).map_err(failed("write to", &self.folder))
    }

    pub fn sync(&mut self) -> Result<(), Error> {
        let synced = self.outcomes.flush().and_then(|()| self.outcomes.get_ref().sync_data());
        synced.map_err(failed("write to", &self.folder))
    }
}

impl Record {
    /// Adds what was spoilt on purpose, for whoever holds the platform against this journal; on disk on return.
    pub fn add_poison(&mut self, poison: impl IntoIterator<Item = Poison>) -> Result<(), Error> {
        self.poison.extend(poison);
        let path = self.folder.join(POISON);
        let mut lines = BufWriter::new(create(&path)?);
        for poison in &self.poison {
            write_line(&mut lines, poison).map_err(failed("write", &path))?;
        }
        lines.flush().and_then(|()| lines.get_ref().sync_all()).map_err(failed("write", &path))
    }

    /// The newest journal below `root`.
    pub fn newest(root: &Path) -> Result<Self, Error> {
        let folders = fs::read_dir(root).into_iter().flatten();
        let journals = folders.filter_map(|entry| {
            let folder = entry.ok()?.path();
            Some((began_at(&folder)?, folder))
        });
        match journals.max() {
            Some((_, folder)) => Self::read(folder),
            None => Err(Error::Usage(format!("no journal in {}: run `headwater simulate` first", root.display()))),
        }
    }

    pub fn read(folder: PathBuf) -> Result<Self, Error> {
        let mut parameters = lines(&folder.join(PARAMETERS))?;
        let Some(parameters) = parameters.pop() else {
            return Err(Error::Failed(format!("the journal in {} is not whole: simulate again", folder.display())));
        };
        let (actions, outcomes) = (lines(&folder.join(ACTIONS))?, lines(&folder.join(OUTCOMES))?);
        let poison = folder.join(POISON);
        let poison = if poison.exists() { lines(&poison)?.into_iter().collect() } else { BTreeSet::new() };
        let began_at = began_at(&folder).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Self { folder, parameters, actions, outcomes, poison, began_at })
    }
}

fn began_at(folder: &Path) -> Option<SystemTime> {
    folder.join(PARAMETERS).metadata().ok()?.modified().ok()
}

fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(failed("create", path))
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let what = format!("cannot {verb} {}", path.display());
    |source| Error::Io { what, source }
}

fn write_line(mut to: impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut to, value)?;
    to.write_all(b"\n")
}

/// Every line; a last one that a crash has cut short counts as never written.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let mut reader = BufReader::new(File::open(path).map_err(failed("open", path))?);
    let (mut values, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).map_err(failed("read", path))? > 0 && line.ends_with('\n') {
        let value = serde_json::from_str(&line).map_err(|error| {
            Error::Failed(format!("{}, line {}: {error}; simulate again", path.display(), values.len() + 1))
        })?;
        values.push(value);
        line.clear();
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulate::plan::{Scenario, plan};

    #[test]
    fn the_newest_journal_reads_back_as_written_and_a_line_cut_short_was_never_written() {
        let root = std::env::temp_dir().join(format!("headwater-journal-{}", std::process::id()));
        assert!(matches!(Record::newest(&root), Err(Error::Usage(_))));
        let parameters =
            |seed| Parameters { events: 30, seed, scenarios: vec![Scenario::Travel], late: 0.5, duplicates: 0.5 };
        let actions = plan(&parameters(2));
        Journal::create(&root, &parameters(1), &[]).unwrap();
        let mut journal = Journal::create(&root, &parameters(2), &actions).unwrap();
        journal.write("a", Outcome::Acknowledged, "").unwrap();
        journal.write("b", Outcome::Rejected, "because").unwrap();
        journal.sync().unwrap();
        let mut outcomes = File::options().append(true).open(journal.folder().join(OUTCOMES)).unwrap();
        outcomes.write_all(b"{\"eventId\":\"c\",").unwrap();

        // the clock of the file system may be too coarse to tell the two apart
        let parameters_of_2 = File::options().append(true).open(journal.folder().join(PARAMETERS)).unwrap();
        let later = parameters_of_2.metadata().unwrap().modified().unwrap() + Duration::from_secs(60);
        parameters_of_2.set_modified(later).unwrap();
        let spoilt = [Poison { partition: 3, offset: 7 }];
        Record::newest(&root).unwrap().add_poison(spoilt).unwrap();
        let record = Record::newest(&root).unwrap();
        assert_eq!((record.parameters, record.actions), (parameters(2), actions));
        assert_eq!(record.poison, spoilt.into());
        let outcomes: Vec<_> =
            record.outcomes.iter().map(|line| (line.event_id.as_str(), line.outcome, line.reason.as_str())).collect();
        assert_eq!(outcomes, [("a", Outcome::Acknowledged, ""), ("b", Outcome::Rejected, "because")]);
        fs::remove_dir_all(root).unwrap();
    }
}
