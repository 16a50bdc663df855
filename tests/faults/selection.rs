//! Which rows are to run, how long, with which traffic.
use anyhow::{Result, bail};

use crate::{
    rows::{MATRIX, Row},
    scene::Length,
};

const ROWS: &str = "HEADWATER_FAULT_ROWS";
const SEED: &str = "HEADWATER_FAULT_SEED";
const EVERYTHING: &str = "matrix";

pub(crate) struct Selection {
    pub rows: Vec<&'static Row>,
    pub length: Length,
    pub seed: u64,
    /// Only say which.
    pub list: bool,
}

impl Row {
    /// What arguments are matched with.
    pub(crate) fn title(&self) -> String {
        format!("row {}: {}", self.id, self.fault)
    }
}

impl Selection {
    pub(crate) fn parse(
        variable: impl Fn(&str) -> Option<String>,
        arguments: impl Iterator<Item = String>,
    ) -> Result<Self> {
        let (mut list, mut wanted) = (false, Vec::new());
        for argument in arguments {
            match argument.as_str() {
                "--list" => list = true,
                // of the test harness: nothing here runs side by side or is captured
                flag if flag.starts_with('-') => {}
                _ => wanted.push(argument),
            }
        }
        let named = variable(ROWS).filter(|rows| !rows.is_empty());
        let mut rows: Vec<&Row> = match named.as_deref() {
            None => MATRIX.iter().filter(|row| row.seconds.1.is_some()).collect(),
            Some(EVERYTHING) => MATRIX.iter().filter(|row| !row.is_marathon()).collect(),
            Some(ids) => ids.split(',').map(|id| find(id.trim())).collect::<Result<_>>()?,
        };
        rows.retain(|row| wanted.is_empty() || wanted.iter().any(|word| row.title().contains(word)));
        let length = if named.is_some() { Length::Full } else { Length::Short };
        let seed = match variable(SEED).filter(|seed| !seed.is_empty()) {
            None => 1,
            Some(text) => match text.parse() {
                Ok(seed) => seed,
                Err(_) => bail!("{SEED}: \"{text}\" must be a whole number"),
            },
        };
        Ok(Self { rows, length, seed, list })
    }
}

fn find(id: &str) -> Result<&'static Row> {
    match MATRIX.iter().find(|row| row.id == id) {
        Some(row) => Ok(row),
        None => {
            let known: Vec<&str> = MATRIX.iter().map(|row| row.id).collect();
            bail!("{ROWS}: there is no row {id:?}; there are {EVERYTHING}, {}", known.join(", "))
        }
    }
}
