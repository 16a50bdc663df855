//! Parts of one row's own, where what is done to them would harm the rows after it. They are removed at its end.
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    rows::{Row, Stage},
    stack::Stack,
    supervisor::free_port,
};

/// Where the broker sends its clients.
pub(crate) const ADVERTISED: &str = "HEADWATER_KAFKA_ADVERTISED_PORT";
const KAFKA_PORT: &str = "HEADWATER_KAFKA_PORT";
/// Room for three parts with what a row writes, and for what fills it up.
const DISK: &str = "size=1500m";

pub(crate) struct Apart {
    pub stack: Stack,
}

impl Apart {
    /// `None` for rows that share the parts of the others.
    pub(crate) async fn of(row: &Row, stack: &Stack) -> Result<Option<Self>> {
        if row.stage == Stage::Shared {
            return Ok(None);
        }
        let mut folder = OsString::from(stack.folder());
        folder.push("-apart");
        // of a run that was cut off
        let mut apart = Self { stack: Stack::at(&folder) };
        apart.remove();
        if row.stage == Stage::SmallDisk {
            fs::create_dir_all(&folder)?;
            mount(Path::new(&folder))?;
        } else {
            // clients are sent to the proxy whatever address they began with
            let (port, advertised) = (free_port(), free_port());
            apart.stack = apart.stack.with(KAFKA_PORT, port).with(ADVERTISED, advertised);
        }
        Ok(Some(apart))
    }

    fn remove(&self) {
        let folder = self.stack.folder();
        if folder.exists() {
            if let Err(error) = self.stack.down() {
                eprintln!("{error:#}");
            }
            // nothing is mounted there but in a row about it; with the disk goes what was on it
            let _ = Command::new("umount").args(["--quiet", "--lazy"]).arg(folder).output();
            if let Err(error) = fs::remove_dir_all(folder) {
                eprintln!("{}: {error}", folder.display());
            }
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.remove();
    }
}

fn mount(folder: &Path) -> Result<()> {
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder).output()?;
    ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A file that takes all the room there is.
pub(crate) struct Ballast(PathBuf);

impl Ballast {
    pub(crate) fn fill(folder: &Path) -> Result<Self> {
        let path = folder.join("ballast");
        let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        // in ever smaller pieces, so that nothing is left
        for size in [1 << 20, 4_096, 1] {
            let piece = vec![0; size];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("{}: {error}", path.display()),
                }
            }
        }
        Ok(Self(path))
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
