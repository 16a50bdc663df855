//! What is told of each row.
use std::fmt;

use anyhow::{Context as _, Result};
use headwater_cli::{
    simulate::{Outcome, Record},
    verify::Table,
};

/// Facts that must be in the stores, and nothing else.
const STORES: [&str; 7] = [
    "daily active users",
    "monthly active users",
    "sessions",
    "risk profiles",
    "fraud reports",
    "accounts",
    "notifications",
];

/// One row's end: what went in, what came out.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub id: &'static str,
    pub fault: &'static str,
    pub seed: u64,
    pub numbers: Option<Numbers>,
    /// From healing until nothing was left of it.
    pub seconds: Option<f64>,
    /// The most that any process held, in MiB.
    pub peak: u64,
    pub notes: Vec<String>,
    pub verdict: Verdict,
}

#[derive(Debug, Default)]
pub(crate) enum Verdict {
    #[default]
    Passed,
    Failed(Vec<String>),
    /// And why it could not be.
    NotRun(&'static str),
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub sent: usize,
    pub acknowledged: usize,
    /// Whose first answer was lost or put off.
    pub unknown: usize,
    pub in_kafka: usize,
    /// Records of the log that are there once more, not on purpose.
    pub again: usize,
    /// Facts found, of those that must be there.
    pub in_stores: (usize, usize),
    pub lost: usize,
    pub twice: usize,
    /// Repeated notifications, and how many were counted as possible.
    pub repeated: (usize, usize),
}

impl Numbers {
    pub(crate) fn of(record: &Record, table: &Table) -> Result<Self> {
        let row = |what: &str| table.0.iter().find(|row| row.what == what).with_context(|| format!("no row {what}"));
        let (log, again, letters) =
            (row("events on the log")?, row("repeated records")?, row("repeated notifications, at most")?);
        let stores = STORES.into_iter().map(row).collect::<Result<Vec<_>>>()?;
        let compared = || stores.iter().copied().chain([log]);
        let outcomes = |wanted| record.outcomes.iter().filter(|line| line.outcome == wanted).count();
        Ok(Self {
            sent: record.actions.len(),
            acknowledged: outcomes(Outcome::Acknowledged),
            unknown: outcomes(Outcome::Unknown),
            in_kafka: log.found,
            again: again.found.saturating_sub(again.expected),
            in_stores: stores.iter().fold((0, 0), |(found, wanted), row| (found + row.found, wanted + row.expected)),
            lost: compared().map(|row| row.expected.saturating_sub(row.found)).sum(),
            twice: compared().map(|row| row.found.saturating_sub(row.expected)).sum(),
            repeated: (letters.found, letters.expected),
        })
    }
}

impl Line {
    /// Why it failed, if it did.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &String> {
        let reasons = if let Verdict::Failed(reasons) = &self.verdict { &reasons[..] } else { &[] };
        reasons.iter()
    }

    fn cells(&self) -> Vec<String> {
        let number = |of: fn(&Numbers) -> String| self.numbers.as_ref().map_or_else(|| "-".to_owned(), of);
        vec![
            self.id.to_owned(),
            self.fault.to_owned(),
            number(|n| n.sent.to_string()),
            number(|n| n.acknowledged.to_string()),
            number(|n| n.unknown.to_string()),
            number(|n| n.in_kafka.to_string()),
            number(|n| n.again.to_string()),
            number(|n| format!("{}/{}", n.in_stores.0, n.in_stores.1)),
            number(|n| n.lost.to_string()),
            number(|n| n.twice.to_string()),
            number(|n| format!("{}/{}", n.repeated.0, n.repeated.1)),
            self.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
            if self.peak == 0 { "-".to_owned() } else { self.peak.to_string() },
            self.seed.to_string(),
            match &self.verdict {
                Verdict::Passed => "passed".to_owned(),
                Verdict::Failed(_) => "FAILED".to_owned(),
                Verdict::NotRun(why) => format!("not run: {why}"),
            },
        ]
    }
}

const HEAD: [&str; 15] = [
    "row",
    "fault",
    "sent",
    "acknowledged",
    "unknown",
    "in Kafka",
    "again",
    "in the stores",
    "lost",
    "twice",
    "told again / possible",
    "s to recover",
    "MiB",
    "seed",
    "verdict",
];

/// All rows, as a table of Markdown.
pub(crate) struct Matrix<'a>(pub &'a [Line]);

impl fmt::Display for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = HEAD.map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = self.0.iter().map(Line::cells).collect();
        let widths: Vec<usize> = (0..HEAD.len())
            .map(|column| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        let mut line = |row: &[String]| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
            writeln!(f, "|{}|", cells.collect::<Vec<_>>().join("|"))
        };
        line(&head)?;
        line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>())?;
        rows.iter().try_for_each(|row| line(row))
    }
}
