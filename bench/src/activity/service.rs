//! A service that is started here, with what it prints in a file, and stopped.
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use headwater_stream::KafkaConfig;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::time::{Instant, interval};

use super::calls::Connection;
use crate::cpu::Process;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
const LOOKS: Duration = Duration::from_millis(50);
/// Of its log, shown where something is wrong.
const LAST_LINES: usize = 20;

/// What is measured, as `NAME=COMMAND`; the command is split at spaces, and its process must be the service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    program: String,
    arguments: Vec<String>,
}

impl FromStr for Contestant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "must be a name and a command, like node=node index.js";
        let (name, command) = text.split_once('=').ok_or(expected)?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let program = words.next().filter(|_| !name.is_empty()).ok_or(expected)?;
        Ok(Self { name: name.to_owned(), program, arguments: words.collect() })
    }
}

/// Killed when dropped, if it still runs.
pub(crate) struct Service {
    pub(crate) http: SocketAddr,
    name: String,
    child: Child,
    log: NamedTempFile,
}

impl Service {
    /// In a group of its own, on ports that were free a moment ago.
    pub(crate) fn start(contestant: &Contestant, kafka: &KafkaConfig, topic: &str) -> anyhow::Result<Self> {
        let log = NamedTempFile::new()?;
        let [http, grpc, admin] = free_ports()?;
        let mut command = Command::new(&contestant.program);
        command
            .args(&contestant.arguments)
            .env("KAFKA_BROKERS", &kafka.brokers)
            .env("KAFKA_TOPIC", topic)
            .env("KAFKA_CONSUMER_GROUP", Self::group_of(topic))
            .env("PORT", http.to_string())
            .env("ACTIVITY_GRPC_PORT", grpc.to_string())
            .env("ADMIN_PORT", admin.to_string())
            .stdin(Stdio::null())
            .stdout(log.reopen()?)
            .stderr(log.reopen()?);
        let child = command.spawn().with_context(|| format!("cannot start {}", contestant.program))?;
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
        Ok(Self { http, name: contestant.name.clone(), child, log })
    }

    pub(crate) fn group_of(topic: &str) -> String {
        format!("{topic}-group")
    }

    /// Until GET /health answers 200.
    pub(crate) async fn until_healthy(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut between = interval(LOOKS);
        loop {
            between.tick().await;
            self.must_run()?;
            if let Ok(mut connection) = Connection::open(self.http).await
                && let Ok((status, _)) = connection.get("/health").await
                && status.is_success()
            {
                return Ok(());
            }
            if start.elapsed() > START {
                bail!("not healthy at {} after {START:?}; {}", self.http, self.last_words());
            }
        }
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(&self.name, self.child.id())
    }

    /// The most bytes of memory that it has had resident.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak.map(|kilobytes: u64| kilobytes * 1024).context("the kernel does not say how much memory it had")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.log.path().to_owned()
    }

    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(self.log.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        format!("its log ends with:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
    }

    /// An error where it has ended by itself.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended: {status}; {}", self.last_words()),
            None => Ok(()),
        }
    }

    /// Asks it to end, and waits until it has. Its log stays until this is dropped.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let asked = Instant::now();
        let mut between = interval(LOOKS);
        loop {
            between.tick().await;
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            if asked.elapsed() > STOP {
                bail!("it runs {STOP:?} after it was asked to end; {}", self.last_words());
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // both do nothing where it has ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // all open at the same time, so that they differ
    let mut open = Vec::with_capacity(N);
    for _ in 0..N {
        open.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&open) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contestant_is_a_name_and_a_command_that_may_hold_the_same_sign() {
        let contestant: Contestant = "node=env NODE_ENV=production node index.js".parse().unwrap();
        assert_eq!((contestant.name.as_str(), contestant.program.as_str()), ("node", "env"));
        assert_eq!(contestant.arguments, ["NODE_ENV=production", "node", "index.js"]);
        for text in ["node", "node=", "node= ", "=node"] {
            assert!(text.parse::<Contestant>().is_err(), "{text}");
        }
    }
}
