//! Where a value comes from.
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{Setting, TABLE};

/// Read where it exists; another one is named by `--config`.
const DEFAULT_FILE: &str = "headwater.toml";

/// All that was said, before any of it is understood.
#[derive(Debug, Default)]
pub struct Sources {
    /// By key.
    pub flags: BTreeMap<&'static str, String>,
    /// By variable.
    pub environment: BTreeMap<String, OsString>,
    /// Variables by which some settings go in a document, which win over ours: (ours, the document's).
    pub documented: &'static [(&'static str, &'static str)],
    pub file: Option<(PathBuf, toml::Table)>,
}

/// What decided a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Flag(&'static str),
    Variable(&'static str),
    File(PathBuf),
    Default,
}

/// The effective text of one setting.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub setting: &'static Setting,
    pub text: String,
    pub source: Source,
}

/// A setting or its file that cannot be used. Secrets are not in it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{0}")]
    Bad(String),
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Sources {
    /// The process environment, and `file` or else headwater.toml in the working folder where there is one.
    pub fn gather(
        flags: BTreeMap<&'static str, String>,
        file: Option<&Path>,
        documented: &'static [(&'static str, &'static str)],
    ) -> Result<Self, SourceError> {
        let known = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok()?;
            let ours = TABLE.iter().any(|setting| setting.variable == name);
            (ours || documented.iter().any(|(_, documented)| *documented == name)).then_some((name, value))
        };
        let environment = std::env::vars_os().filter_map(known).collect();
        let path = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
        let file = match fs::read_to_string(&path) {
            Ok(text) => {
                let table = text.parse().map_err(|error| not_toml(&path, &text, &error))?;
                Some((path, table))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => None,
            Err(source) => return Err(SourceError::Unreadable { path, source }),
        };
        Ok(Self { flags, environment, documented, file })
    }

    /// One value per row of the table, in its order.
    pub fn resolve(&self) -> Result<Vec<Resolved>, SourceError> {
        if let Some((path, table)) = &self.file
            && let Some(unknown) = table.keys().find(|key| TABLE.iter().all(|setting| setting.key != *key))
        {
            let path = path.display();
            return Err(SourceError::Bad(format!(
                "{path}: no setting is called {unknown}; `headwater config` lists them"
            )));
        }
        TABLE.iter().map(|setting| self.resolve_one(setting)).collect()
    }

    fn resolve_one(&self, setting: &'static Setting) -> Result<Resolved, SourceError> {
        let resolved = |text: String, source| Ok(Resolved { setting, text, source });
        if let Some(text) = self.flags.get(setting.key) {
            return resolved(text.clone(), Source::Flag(setting.key));
        }
        let documented = self.documented.iter().filter(|(ours, _)| *ours == setting.variable).map(|(_, name)| *name);
        for variable in documented.chain([setting.variable]) {
            if let Some(value) = self.environment.get(variable).filter(|value| !value.is_empty()) {
                let text = value.clone().into_string();
                let text = text.map_err(|_| SourceError::Bad(format!("{variable}: is not UTF-8")))?;
                return resolved(text, Source::Variable(variable));
            }
        }
        if let Some((path, table)) = &self.file
            && let Some(value) = table.get(setting.key)
        {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(value) => value.to_string(),
                _ => {
                    let (path, key) = (path.display(), setting.key);
                    return Err(SourceError::Bad(format!("{path}: {key} must be text, a number, true or false")));
                }
            };
            return resolved(text, Source::File(path.clone()));
        }
        resolved(setting.default.to_owned(), Source::Default)
    }
}

/// Not with the words of the error itself: it shows the line, and a secret may stand there.
fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> SourceError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let (path, message) = (path.display(), error.message());
    SourceError::Bad(format!("{path}: is not TOML at line {line}, column {column}: {message}"))
}

impl Resolved {
    /// The error that names this value and where it was set.
    pub(super) fn bad(&self, expected: String) -> SourceError {
        let from = match &self.source {
            Source::File(path) => format!("{} in {}", self.setting.key, path.display()),
            source => source.to_string(),
        };
        let value = if self.setting.secret { String::new() } else { format!("{:?} ", self.text) };
        SourceError::Bad(format!("{from}: {value}{expected}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{}", key.replace('_', "-")),
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}
