use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    Error,
    target::{PATH, Target},
};

/// The file, for as long as this value lives. After a kill it stays behind; its pid tells.
pub(crate) struct Announcement(PathBuf);

impl Announcement {
    pub(crate) fn write(target: &Target) -> Result<Self, Error> {
        let path = PathBuf::from(PATH);
        replace(&path, target).map_err(|source| Error::Io { what: format!("cannot write {PATH}"), source })?;
        Ok(Self(path))
    }
}

/// What the `up` that runs in this folder says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Of its broker.
    pub(crate) bootstrap: String,
}

/// `None` where none runs here.
pub(crate) fn announced() -> Result<Option<Announced>, Error> {
    let text = match fs::read_to_string(PATH) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { what: format!("cannot read {PATH}"), source }),
    };
    let facts: Value = serde_json::from_str(&text).unwrap_or_default();
    let (Some(pid), Some(bootstrap)) = (facts["pid"].as_u64(), facts["kafka"]["bootstrap"].as_str()) else {
        return Err(Error::Usage(format!("{PATH} is not what `headwater up` writes; remove it")));
    };
    // after a kill it stays behind
    let lives = Path::new("/proc").join(pid.to_string()).exists() || !Path::new("/proc/self").exists();
    Ok(lives.then(|| Announced { bootstrap: bootstrap.to_owned() }))
}

/// Readers see the old file or the new one, never a part.
fn replace(path: &Path, target: &Target) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("json.new");
    let mut text = serde_json::to_vec_pretty(target)?;
    text.push(b'\n');
    fs::write(&beside, text)?;
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
