//! Who was told what, as the notification instances wrote it down.
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
};

use headwater_proto::{Millis, Timestamp};
use serde::Deserialize;

use super::{
    expected::{Expected, Letter, Recipient},
    table::Row,
};
use crate::Error;

/// A line of a notification log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    email: String,
    timestamp: Timestamp,
    kind: String,
    event_id: String,
    user_id: String,
}

/// Every letter written since, and how often.
#[derive(Debug, Default)]
pub(crate) struct Letters(BTreeMap<(String, String), (Recipient, usize)>);

impl Letters {
    /// Of every instance's log. A line that a dying process left half written was never delivered.
    pub(crate) fn read(folder: &Path, since: Millis) -> Result<Self, Error> {
        let failed =
            |source| Error::Io { what: format!("cannot read the notifications in {}", folder.display()), source };
        let mut letters = Self::default();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            for line in BufReader::new(fs::File::open(path).map_err(failed)?).split(b'\n') {
                letters.add(&line.map_err(failed)?, since);
            }
        }
        Ok(letters)
    }

    fn add(&mut self, line: &[u8], since: Millis) {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return };
        // what an earlier platform wrote into the same folder
        if Millis::try_from(line.timestamp).is_ok_and(|at| at < since) {
            return;
        }
        let recipient = Recipient { user_id: line.user_id, email: line.email };
        self.0.entry((line.event_id, line.kind)).or_insert((recipient, 0)).1 += 1;
    }

    /// `possible_duplicates`: how often a letter may have been written twice, by the platform's own count.
    pub(crate) fn rows(mut self, expected: &Expected, possible_duplicates: usize) -> [Row; 2] {
        let mut letters = Row::new("notifications");
        let written: usize = self.0.values().map(|(_, times)| times).sum();
        let mut repeats = Row {
            expected: possible_duplicates,
            found: written - self.0.len(),
            ..Row::new("repeated notifications, at most")
        };
        for (letter, wanted) in &expected.letters {
            let found = self.0.remove(&owned(letter));
            match found {
                Some((found, _)) if found != *wanted => {
                    // without the addresses: they belong to nobody's screen
                    letters.differences.push(format!("{} {} went to somebody else", letter.1, letter.0));
                    letters.expected += 1;
                    letters.found += 1;
                }
                found => letters.compare(place(letter.1, &letter.0), Some(()), found.map(|_| ())),
            }
        }
        for (event_id, kind) in self.0.keys() {
            letters.compare(place(kind, event_id), None, Some(()));
        }
        if repeats.found > repeats.expected {
            let told = format!("{} are repeats, of which {} were counted as possible", repeats.found, repeats.expected);
            repeats.differences.push(told);
        }
        [letters, repeats]
    }
}

fn owned((event_id, kind): &Letter) -> (String, String) {
    (event_id.clone(), (*kind).to_owned())
}

fn place(kind: &str, event_id: &str) -> String {
    format!("{kind} of {event_id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        simulate::{Parameters, Scenario, plan},
        verify::expected::{Rules, expected},
    };

    #[test]
    fn lost_repeated_and_misdirected_letters_are_told_and_those_of_before_are_not_counted() {
        let parameters =
            Parameters { events: 200, seed: 1, scenarios: vec![Scenario::Takeover], late: 0.0, duplicates: 0.0 };
        let rules = Rules { session_timeout: 1_800_000, login_warning_threshold: 3 };
        let expected = expected(&plan(&parameters), rules);
        let line = |(event_id, kind): &Letter, to: &Recipient, at: &str| {
            let Recipient { user_id, email } = to;
            format!(
                r#"{{"email":"{email}","timestamp":"{at}","kind":"{kind}","subject":"","body":"","eventId":"{event_id}","userId":"{user_id}","instance":"1"}}"#
            )
        };
        let (before, after) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let mut lines: Vec<String> = Vec::new();
        for (letter, to) in &expected.letters {
            lines.extend([line(letter, to, before), line(letter, to, after)]);
        }
        let read = |lines: &[String]| {
            let mut letters = Letters::default();
            lines.iter().for_each(|line| letters.add(line.as_bytes(), after.parse().unwrap()));
            letters
        };
        let [letters, repeats] = read(&lines).rows(&expected, 0);
        assert_eq!((letters.expected, letters.found), (expected.letters.len(), expected.letters.len()));
        assert!(letters.differences.is_empty() && repeats.differences.is_empty(), "{letters:?} {repeats:?}");

        let lost = lines.pop().unwrap();
        let (first, to) = expected.letters.first_key_value().unwrap();
        lines.push(line(first, to, after));
        let wrong = Recipient { email: "eve@example.com".into(), ..to.clone() };
        lines[1] = line(first, &wrong, after);
        lines.push("{\"email\":".into());
        let [letters, repeats] = read(&lines).rows(&expected, 0);
        assert_eq!(letters.differences.len(), 2, "{letters:?}");
        assert!(letters.differences[1].ends_with("is missing") && lost.contains(&letters.differences[1][..4]));
        assert!(letters.differences[0].contains(&first.0) && !letters.differences[0].contains('@'));
        assert_eq!(repeats.differences.len(), 1, "{repeats:?}");
        assert!(read(&lines).rows(&expected, 1)[1].differences.is_empty());
    }
}
