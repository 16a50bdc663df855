//! The real parts, handled by `deploy/native/stack` in the folder that `HEADWATER_NATIVE_DIR` names.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/native/stack");
const FOLDER: &str = "HEADWATER_NATIVE_DIR";

/// A folder of parts. Commands wait until they are done.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Stack {
    /// Never that of the checkout: somebody may work there.
    pub(crate) fn of_environment() -> Result<Self> {
        let folder = std::env::var_os(FOLDER).with_context(|| {
            format!(
                "{FOLDER} is not set: run `make faults`, or name a folder for the parts that are going to be killed, \
                 which the user postgres can reach"
            )
        })?;
        Ok(Self::at(folder))
    }

    pub(crate) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), environment: Vec::new() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same parts, whose next start obeys a variable of `stack` too.
    pub(crate) fn with(&self, variable: &'static str, value: impl ToString) -> Self {
        let mut stack = self.clone();
        stack.environment.push((variable, value.to_string()));
        stack
    }

    /// What a variable of `stack` was set to.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.as_str())
    }

    /// Ends all parts; waits for it.
    pub(crate) fn down(&self) -> Result<()> {
        let output = Command::new(PROGRAM).arg("down").env(FOLDER, &self.folder).output()?;
        ensure!(output.status.success(), "stack down: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// `deploy/native/stack <arguments>`; returns what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let told = arguments.join(" ");
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env(FOLDER, &self.folder);
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.with_context(|| format!("{PROGRAM} does not run"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "stack {told}: {}", complaint.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The value that `stack env <part>` exports as `variable`.
    pub(crate) async fn address(&self, part: &str, variable: &str) -> Result<String> {
        let printed = self.run(&["env", part]).await?;
        let prefix = format!("export {variable}=");
        match printed.lines().find_map(|line| line.strip_prefix(&prefix)) {
            Some(value) => Ok(value.to_owned()),
            None => bail!("`stack env {part}` does not name {variable}"),
        }
    }
}
