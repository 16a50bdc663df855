use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{Error, up::Platform};

/// In the working folder: where a running `up` is, for the tools that look at it.
const PATH: &str = "var/up.json";

/// The file, for as long as this value lives. After a kill it stays behind; its pid tells.
pub(crate) struct Announcement(PathBuf);

impl Announcement {
    pub(crate) fn write(platform: &Platform) -> Result<Self, Error> {
        let kafka = json!({ "bootstrap": platform.bootstrap(), "embedded": platform.is_embedded() });
        let facts = json!({ "pid": std::process::id(), "kafka": kafka, "addresses": platform.addresses() });
        let path = PathBuf::from(PATH);
        replace(&path, &facts).map_err(|source| Error::Io { what: format!("cannot write {PATH}"), source })?;
        Ok(Self(path))
    }
}

/// Readers see the old file or the new one, never a part.
fn replace(path: &Path, facts: &Value) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("json.new");
    fs::write(&beside, format!("{facts:#}\n"))?;
    fs::rename(beside, path)
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let ours = serde_json::from_str::<Value>(&text).is_ok_and(|facts| facts["pid"] == std::process::id());
        // another `up` on other ports may have written its own since
        if ours && let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, path = PATH, "cannot remove the announcement");
        }
    }
}
