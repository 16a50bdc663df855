//! What was compared, as rows: what must be, what is, and the first differences in words.
use std::fmt;

/// How many differences a row tells in words.
const TOLD: usize = 5;

#[derive(Debug)]
pub struct Row {
    pub what: &'static str,
    pub expected: usize,
    pub found: usize,
    pub differences: Vec<String>,
    /// What to know of an equal row.
    pub note: String,
}

impl Row {
    pub fn new(what: &'static str) -> Self {
        Self { what, expected: 0, found: 0, differences: Vec::new(), note: String::new() }
    }

    /// Counts and compares one thing that may be absent on either side.
    pub fn compare<T: PartialEq + fmt::Debug>(
        &mut self,
        place: impl fmt::Display,
        expected: Option<T>,
        found: Option<T>,
    ) {
        self.expected += usize::from(expected.is_some());
        self.found += usize::from(found.is_some());
        match (&expected, &found) {
            (Some(_), None) => self.differences.push(format!("{place} is missing")),
            (None, Some(_)) => self.differences.push(format!("{place} is not expected")),
            _ => self.check(place, &expected, &found),
        }
    }

    /// Compares one thing; `place` is told where they differ.
    pub fn check<T: PartialEq + fmt::Debug>(&mut self, place: impl fmt::Display, expected: &T, found: &T) {
        if expected != found {
            self.differences.push(format!("{place}: expected {expected:?}, found {found:?}"));
        }
    }
}

/// All rows of a verification.
#[derive(Debug, Default)]
pub struct Table(pub Vec<Row>);

impl Table {
    pub fn differences(&self) -> usize {
        self.0.iter().map(|row| row.differences.len()).sum()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} {:>12} {:>12}  result", "compared", "expected", "found")?;
        for row in &self.0 {
            let result = match row.differences.len() {
                0 if row.note.is_empty() => "equal".to_owned(),
                0 => row.note.clone(),
                n => format!("{n} differ"),
            };
            writeln!(f, "{:<34} {:>12} {:>12}  {result}", row.what, row.expected, row.found)?;
        }
        for row in self.0.iter().filter(|row| !row.differences.is_empty()) {
            writeln!(f, "\n{}:", row.what)?;
            for difference in row.differences.iter().take(TOLD) {
                writeln!(f, "  {difference}")?;
            }
            if row.differences.len() > TOLD {
                writeln!(f, "  and {} more", row.differences.len() - TOLD)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_missing_what_is_not_expected_and_what_is_other() {
        let mut row = Row::new("letters");
        row.compare("a", Some(1), Some(1));
        row.compare("b", Some(1), None);
        row.compare("c", None, Some(1));
        row.compare("d", Some(1), Some(2));
        assert_eq!((row.expected, row.found), (3, 3));
        assert_eq!(row.differences, ["b is missing", "c is not expected", "d: expected Some(1), found Some(2)"]);

        let equal = Row { note: "known to be so".to_owned(), ..Row::new("sessions") };
        let table = Table(vec![equal, row]);
        assert_eq!(table.differences(), 3);
        let told = table.to_string();
        assert!(
            told.contains("known to be so") && told.contains("3 differ") && told.contains("  b is missing"),
            "{told}"
        );
    }
}
