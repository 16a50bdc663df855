//! `headwater replay`, `digest` and `groups` as their user runs them: processes beside the services, on the same parts.
use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headwater_documents::{
    Documents,
    bson::{self, doc},
};

use crate::{scene::Scene, supervisor::headwater, wait::until};

/// For one verb, beside the traffic and the other verbs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Starts verbs that read what the services of a scene have made.
pub(crate) struct Verbs {
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
    started: AtomicU32,
}

/// What a replay said at its end.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub name: String,
    pub records: usize,
    /// The line with its records, seconds and rate.
    pub told: String,
    pub digest: String,
    /// Of its digest with another.
    pub comparison: String,
}

/// A verb on its way; killed when dropped.
struct Running {
    child: Child,
    /// What it was asked, and its exit code later.
    what: String,
    out: PathBuf,
    err: PathBuf,
}

impl Verbs {
    pub(crate) fn of(scene: &Scene) -> Self {
        let environment = vec![
            ("KAFKA_BROKERS", scene.parts.brokers.clone()),
            ("MONGODB_URI", scene.parts.documents.clone()),
            ("HEADWATER_GROUP_SUFFIX", scene.parts.suffix.clone()),
        ];
        Self { environment, folder: scene.folder.clone(), started: AtomicU32::new(0) }
    }

    /// The digest of the live documents.
    pub(crate) async fn digest(&self, of: &str) -> Result<String> {
        let told = self.run(&["digest", of]).await?;
        Ok(whole(&told, of)?.to_owned())
    }

    /// From the beginning of the log, to the end.
    pub(crate) async fn replay(&self, of: &str, more: &[&str]) -> Result<Replayed> {
        let told = self.run(&[&["replay", of, "--from", "0"], more].concat()).await?;
        let first = told.lines().next().unwrap_or_default();
        let read = first.strip_prefix("replay ").and_then(|rest| rest.split_once(": "));
        let (name, rate) = read.with_context(|| format!("no replay is named: {told}"))?;
        let records = rate.split(' ').next().and_then(|records| records.parse().ok());
        Ok(Replayed {
            name: name.to_owned(),
            records: records.with_context(|| format!("no records are told: {told}"))?,
            told: rate.to_owned(),
            digest: whole(&told, of)?.to_owned(),
            comparison: told.lines().last().unwrap_or_default().to_owned(),
        })
    }

    /// A replay that gets SIGKILL when documents of it stand in this collection. How many of them is returned.
    pub(crate) async fn killed_replay(&self, of: &str, collection: &str) -> Result<u64> {
        let mut replay = self.start(&["replay", of, "--from", "0"])?;
        let (_, uri) = self.environment.iter().find(|(name, _)| *name == "MONGODB_URI").context("a document store")?;
        let documents = Documents::open(uri).await?;
        let name = until(format_args!("{} says its name", replay.what), PATIENCE, async || {
            let said = fs::read_to_string(&replay.err).unwrap_or_default();
            let named = said.lines().find_map(|line| line.strip_prefix("replay ")?.strip_suffix(&format!(" of {of}")));
            named.map(str::to_owned).ok_or(said)
        })
        .await?;
        let collection = documents.collection::<bson::Document>(&format!("{collection}_replay_{name}"));
        let made = until(format_args!("{} has written", replay.what), PATIENCE, async || {
            match collection.count(doc! {}).await {
                Ok(0) => Err("nothing".to_owned()),
                Ok(documents) => Ok(documents),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        replay.child.kill()?;
        let status = replay.child.wait()?;
        ensure!(status.signal().is_some(), "{} came to its end before it was killed: {status}", replay.what);
        Ok(made)
    }

    /// What it printed, once it has ended well.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut verb = self.start(arguments)?;
        let status = verb.ended().await?;
        let (out, err) = (fs::read_to_string(&verb.out)?, fs::read_to_string(&verb.err)?);
        ensure!(status.success(), "{} ended with {status}:\n{out}{err}", verb.what);
        Ok(out)
    }

    fn start(&self, arguments: &[&str]) -> Result<Running> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let path = |end: &str| self.folder.join(format!("{}-{number}.{end}", arguments[..2].join("-")));
        let (out, err) = (path("out"), path("err"));
        let mut command = headwater(&self.folder, self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let what = format!("`headwater {}`", arguments.join(" "));
        let child = command.spawn().with_context(|| format!("{what} cannot be started"))?;
        Ok(Running { child, what, out, err })
    }
}

impl Running {
    async fn ended(&mut self) -> Result<ExitStatus> {
        let Self { child, what, err, .. } = self;
        until(format_args!("{what} ends"), PATIENCE, async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(fs::read_to_string(&*err).unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The digest of everything, out of what was printed.
fn whole<'a>(told: &'a str, of: &str) -> Result<&'a str> {
    let line = told.lines().find_map(|line| line.strip_prefix(&format!("digest of {of}")));
    line.map(str::trim).with_context(|| format!("no digest of {of}: {told}"))
}
