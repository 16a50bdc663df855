use std::{fmt::Display, io::Write as _};

use crate::Error;

/// Onto standard output; `what` names it where that fails.
pub(crate) fn print(what: &str, text: impl Display) -> Result<(), Error> {
    write!(std::io::stdout(), "{text}").map_err(|source| Error::Io { what: format!("cannot print {what}"), source })
}
