//! What an operator can set.
use std::{fs, path::PathBuf};

use crate::{Error, rules::Rules};

/// Of one fraud service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `HEADWATER_FRAUD_RULES`: a TOML file in the shape of [`Rules::BUILT_IN`]; `None` means those. They are part of
    /// what the stored decisions say: after a change, replay the log into empty collections.
    pub rules: Option<PathBuf>,
}

impl Config {
    /// Names the key that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        self.rules().map(drop).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("rules: {error}{source}")
        })
    }

    /// Reads the file.
    pub fn rules(&self) -> Result<Rules, Error> {
        let Some(path) = &self.rules else { return Ok(Rules::default()) };
        let text = fs::read_to_string(path).map_err(|source| Error::ReadRules { path: path.clone(), source })?;
        Rules::parse(&text).map_err(|source| Error::InvalidRules { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_or_wrong_is_named_with_the_key() {
        assert_eq!(Config::default().validate(), Ok(()));
        let missing = Config { rules: Some("no/such/rules.toml".into()) }.validate().unwrap_err();
        assert!(missing.starts_with("rules: could not read the fraud rules in no/such/rules.toml: "), "{missing}");

        let path = std::env::temp_dir().join(format!("headwater-rules-{}.toml", std::process::id()));
        fs::write(&path, "[thresholds]\nflagged = 0").unwrap();
        let wrong = Config { rules: Some(path.clone()) }.validate().unwrap_err();
        fs::remove_file(path).unwrap();
        assert!(wrong.ends_with("are not valid: thresholds.flagged must be between 1 and 1000000, not 0"), "{wrong}");
    }
}
