//! Services as processes: started, signalled, and started again where a fault has ended them, at once, as
//! `restart: unless-stopped` would. A process that ends by itself is started again too, and that is held against it.
use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, interval},
};

use crate::wait::until;

const TICK: Duration = Duration::from_millis(50);
/// Between two starts of a process that cannot start yet, because what it needs is down.
const BETWEEN_STARTS: Duration = Duration::from_secs(1);
const READY: Duration = Duration::from_secs(90);
/// RELIABILITY.md: with work in flight 25 s; and a little for the machine.
const END: Duration = Duration::from_secs(27);
const SECOND: Duration = Duration::from_secs(1);

/// What is started, each time in the same way.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub name: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub admin: u16,
    /// Working folder; its output is appended to `<name>.log` there.
    pub folder: PathBuf,
}

/// A supervised process; killed when dropped.
pub(crate) struct Process {
    launch: Arc<Launch>,
    http: reqwest::Client,
    state: Arc<Mutex<State>>,
    watch: JoinHandle<()>,
}

struct State {
    child: Child,
    started: Instant,
    starts: u32,
    /// Its end is the fault's doing, until it has been ready again.
    excused: bool,
    /// Highest resident memory of any of its lives, in KiB.
    peak: u64,
    complaints: Vec<String>,
}

/// The program in this folder, with these variables and no others.
pub(crate) fn headwater(
    folder: &Path,
    environment: impl Iterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-under-test"));
    command.current_dir(folder).env_clear().envs(environment).stdin(Stdio::null());
    command
}

impl Launch {
    fn start(&self) -> Result<Child> {
        let path = self.folder.join(format!("{}.log", self.name));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write to {}", path.display()))?;
        let mut command = headwater(&self.folder, self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("{} cannot be started", self.name))
    }

    /// The same under another name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        let instance = self.environment.iter_mut().filter(|(variable, _)| variable == "HEADWATER_INSTANCE");
        instance.for_each(|(_, value)| *value = name.to_owned());
        Self { name: name.to_owned(), ..self }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    fn last_words(&self) -> String {
        self.said().lines().last().unwrap_or_default().to_owned()
    }
}

impl Process {
    pub(crate) fn start(launch: Launch) -> Result<Self> {
        let (launch, http) = (Arc::new(launch), reqwest::Client::builder().timeout(SECOND).build()?);
        let child = launch.start()?;
        let started = Instant::now();
        let state = State { child, started, starts: 1, excused: false, peak: 0, complaints: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let watch = tokio::spawn(watch(launch.clone(), http.clone(), state.clone()));
        Ok(Self { launch, http, state, watch })
    }

    pub(crate) fn name(&self) -> &str {
        &self.launch.name
    }

    /// Where its metrics are.
    pub(crate) fn admin(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.launch.admin))
    }

    /// All it has logged so far.
    pub(crate) fn said(&self) -> String {
        self.launch.said()
    }

    pub(crate) async fn until_ready(&self) -> Result<()> {
        let what = format!("{} is ready", self.name());
        until(what, READY, async || is_ready(&self.http, &self.launch).await).await
    }

    /// SIGKILL, and started again at once.
    pub(crate) async fn kill(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        state.measure();
        state.excused = true;
        state.child.kill()?;
        state.child.wait()?;
        state.start(&self.launch)
    }

    /// SIGKILL, and nobody starts it again: what it was, for whoever takes its place, and what [`Process::stop`] tells.
    pub(crate) async fn kill_for_good(self) -> Result<(Launch, Past)> {
        self.watch.abort();
        let mut state = self.state.lock().await;
        state.measure();
        state.child.kill()?;
        state.child.wait()?;
        Ok(((*self.launch).clone(), state.past()))
    }

    /// SIGTERM, and started again when it has ended. An end that takes too long or fails is held against it.
    pub(crate) async fn restart(&self) -> Result<Duration> {
        let mut state = self.state.lock().await;
        let took = state.end(&self.launch).await?;
        state.excused = true;
        state.start(&self.launch)?;
        Ok(took)
    }

    pub(crate) async fn freeze(&self) -> Result<()> {
        self.state.lock().await.signal(Signal::STOP)
    }

    pub(crate) async fn thaw(&self) -> Result<()> {
        self.state.lock().await.signal(Signal::CONT)
    }

    /// Ends it for good.
    pub(crate) async fn stop(self) -> Result<Past> {
        self.watch.abort();
        let mut state = self.state.lock().await;
        state.end(&self.launch).await?;
        Ok(state.past())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// What is left of a process.
pub(crate) struct Past {
    /// Of resident memory, in MiB.
    pub peak: u64,
    /// What is to be said against it.
    pub complaints: Vec<String>,
}

impl State {
    fn past(&mut self) -> Past {
        Past { peak: self.peak.div_ceil(1_024), complaints: std::mem::take(&mut self.complaints) }
    }

    fn start(&mut self, launch: &Launch) -> Result<()> {
        self.child = launch.start()?;
        self.started = Instant::now();
        self.starts += 1;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {pid:?}"))
    }

    fn measure(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
        self.peak = self.peak.max(peak.unwrap_or_default());
    }

    async fn end(&mut self, launch: &Launch) -> Result<Duration> {
        self.measure();
        let start = Instant::now();
        let excused = self.excused;
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        let child = &mut self.child;
        let ended = async || child.try_wait().ok().flatten().ok_or_else(|| "it still runs".to_owned());
        match until(format_args!("{} ends", launch.name), END, ended).await {
            // who is asked to end before it was ready may say that it never was
            Ok(status) if !status.success() && !excused => {
                let told = format!("{} was asked to end and ended with {status}: {}", launch.name, launch.last_words());
                self.complaints.push(told);
            }
            Ok(_) => {}
            Err(_) => {
                self.complaints.push(format!("{} was asked to end and had not after {END:?}", launch.name));
                self.child.kill()?;
                self.child.wait()?;
            }
        }
        Ok(start.elapsed())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn is_ready(http: &reqwest::Client, launch: &Launch) -> Result<(), String> {
    let answer = http.get(format!("http://127.0.0.1:{}/readyz", launch.admin)).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(answer.text().await.unwrap_or_default()),
        Err(_) => Err(format!("no answer; its last words: {}", launch.last_words())),
    }
}

/// Starts it again where it has ended, measures it, and notes when it is ready again after a fault.
async fn watch(launch: Arc<Launch>, http: reqwest::Client, state: Arc<Mutex<State>>) {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        let mut now = state.lock().await;
        now.measure();
        match now.child.try_wait() {
            Ok(Some(status)) => now.ended(&launch, status),
            _ if now.excused => {
                let starts = now.starts;
                drop(now);
                let ready = is_ready(&http, &launch).await.is_ok();
                let mut now = state.lock().await;
                // of this life and no earlier one
                now.excused &= !(ready && now.starts == starts);
            }
            _ => {}
        }
    }
}

impl State {
    fn ended(&mut self, launch: &Launch, status: ExitStatus) {
        if self.started.elapsed() < BETWEEN_STARTS {
            return;
        }
        if !self.excused {
            self.complaints.push(format!("{} ended by itself with {status}: {}", launch.name, launch.last_words()));
        }
        self.excused = true;
        if let Err(error) = self.start(launch) {
            self.complaints.push(format!("{error:#}"));
        }
    }
}

/// A port that nobody has. Below the range of outgoing connections, so that a process that was killed finds it free
/// again.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
