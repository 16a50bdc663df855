//! How calls fail. Nothing here repeats what a document holds: the driver's own texts may, so they are not shown.
use std::time::Duration;

use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};

/// Why a call did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers, or not in time, or not now. The call may have been carried out; it may be repeated for ever.
    #[error("the document store did not complete {operation}: {cause}")]
    Unavailable { operation: &'static str, cause: String },
    /// The server understood and refuses, or answers what nobody can read: this program or the server's version is
    /// wrong. Repeating it helps only where somebody mends that.
    #[error("the document store refuses {operation}: {cause}")]
    Refused { operation: &'static str, cause: String },
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Says nothing of the value: it has a password in it.
    #[error("MONGODB_URI: must be a MongoDB URI like mongodb://user:password@host:27017/database")]
    Uri,
    #[error("the document store at {address} cannot be used; see that it runs there and that MONGODB_URI is right")]
    Unreachable {
        address: String,
        #[source]
        source: Error,
    },
}

impl OpenError {
    /// Nobody answers there, or not to us.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The `_id` is there already.
pub(crate) const DUPLICATE_KEY: i32 = 11_000;

/// Codes by which a server says that it, not the call, is the matter: it starts, stops, has no primary, ran out of
/// time, or gave an operation up. From MongoDB's table of error codes, those that its drivers retry, and timeouts.
const NOT_NOW: [i32; 20] =
    [6, 7, 24, 50, 64, 89, 91, 112, 134, 189, 262, 317, 358, 384, 9001, 10058, 10107, 11600, 11602, 13435];
const RECOVERING: i32 = 13_436;

impl Error {
    pub(crate) fn late(operation: &'static str, after: Duration) -> Self {
        Self::Unavailable { operation, cause: format!("no answer within {} s", after.as_secs()) }
    }

    pub(crate) fn of(operation: &'static str, error: &DriverError) -> Self {
        match &*error.kind {
            ErrorKind::Io(source) => Self::Unavailable { operation, cause: source.to_string() },
            ErrorKind::ServerSelection { message, .. } => Self::Unavailable { operation, cause: message.clone() },
            ErrorKind::ConnectionPoolCleared { .. } => {
                Self::Unavailable { operation, cause: "its connections were lost".to_owned() }
            }
            ErrorKind::DnsResolve { message, .. } => Self::Unavailable { operation, cause: message.clone() },
            ErrorKind::Authentication { .. } => {
                Self::Refused { operation, cause: "the user or the password in MONGODB_URI is wrong".to_owned() }
            }
            ErrorKind::Command(command) => Self::coded(operation, command.code, &command.code_name),
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                Self::coded(operation, write.code, write.code_name.as_deref().unwrap_or_default())
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(_)) => Self::not_durable(operation),
            ErrorKind::InsertMany(many) if many.write_concern_error.is_some() => Self::not_durable(operation),
            ErrorKind::InsertMany(many) => {
                let refused = many.write_errors.iter().flatten().find(|error| error.code != DUPLICATE_KEY);
                let (code, name) =
                    refused.map_or((DUPLICATE_KEY, None), |error| (error.code, error.code_name.as_deref()));
                Self::coded(operation, code, name.unwrap_or_default())
            }
            ErrorKind::Bson(bson) => Self::unreadable(operation, bson),
            ErrorKind::IncompatibleServer { message, .. } => Self::Refused { operation, cause: message.clone() },
            ErrorKind::InvalidResponse { .. } => Self::Refused { operation, cause: "its answer is invalid".to_owned() },
            // the others say what this program did with the driver, not what the server holds
            _ => Self::Refused { operation, cause: "the driver gave up".to_owned() },
        }
    }

    /// A code of MongoDB's table; the name only where the server gives one.
    pub(crate) fn coded(operation: &'static str, code: i32, name: &str) -> Self {
        let named = if name.is_empty() { String::new() } else { format!(" ({name})") };
        let cause = format!("code {code}{named}");
        if NOT_NOW.contains(&code) || code == RECOVERING {
            Self::Unavailable { operation, cause }
        } else {
            Self::Refused { operation, cause }
        }
    }

    /// It is written, and not where it would survive.
    pub(crate) fn not_durable(operation: &'static str) -> Self {
        Self::Unavailable { operation, cause: "the write is not durable yet".to_owned() }
    }

    /// By place only: the text of such an error quotes values.
    pub(crate) fn unreadable(operation: &'static str, error: &mongodb::bson::error::Error) -> Self {
        let place = error.key.as_ref().map(|key| format!(" at {key}")).unwrap_or_default();
        Self::Refused { operation, cause: format!("a document cannot be read or written{place}: {}", error.kind) }
    }
}
