//! What somebody does who has just cloned the repository: start it, paste the three commands it prints, press Ctrl-C.
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use headwater_cli::settings::ports;
use headwater_tests::eventually;

/// SPEC.md, 5 and 6: ready in under 5 s, and gone in under 5 s when idle.
const SOON: Duration = Duration::from_secs(5);

struct Up {
    process: Child,
    banner: String,
    folder: std::path::PathBuf,
}

/// In an empty folder, on free ports, until it has said that it is up.
fn up() -> Up {
    let folder = std::env::temp_dir().join(format!("headwater-newcomer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut process = Command::new(env!("CARGO_BIN_EXE_headwater-under-test"))
        .arg("up")
        .current_dir(&folder)
        .envs(ports().map(|port| (port, "0")))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut banner = String::new();
    for line in BufReader::new(process.stdout.take().expect("its output")).lines() {
        let line = line.expect("text");
        banner += &format!("{line}\n");
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    Up { process, banner, folder }
}

impl Up {
    fn commands(&self) -> Vec<&str> {
        let (_, rest) = self.banner.split_once("Three things to try:").unwrap_or_else(|| panic!("{}", self.banner));
        let (commands, _) = rest.split_once("Ctrl-C").expect("the end of the banner");
        commands.split("\n\n").map(str::trim).filter(|command| !command.is_empty()).collect()
    }
}

fn paste(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output().expect("bash");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_commands_that_up_prints_work_when_pasted_and_ctrl_c_ends_it() {
    let started = Instant::now();
    let mut up = up();
    assert!(started.elapsed() < SOON, "ready after {:?}", started.elapsed());
    assert!(up.folder.join("var/up.json").exists());

    let commands = up.commands();
    let [register, login, active] = commands[..] else { panic!("three commands in {}", up.banner) };
    assert!(paste(register).contains("userId"), "{register}");
    assert!(paste(login).contains("sessionId"), "{login}");
    eventually("the login is counted", async || paste(active).contains(r#""activeUsers":"1""#).then_some(())).await;

    // its documents are in no other process than its own
    let digest = Command::new(env!("CARGO_BIN_EXE_headwater-under-test"))
        .args(["digest", "analytics"])
        .current_dir(&up.folder)
        .output()
        .expect("the binary starts");
    let told = String::from_utf8_lossy(&digest.stdout);
    let counted = told.lines().any(|line| line.split_whitespace().take(2).eq(["session_events", "1"]));
    assert!(digest.status.success() && counted, "{told}{}", String::from_utf8_lossy(&digest.stderr));

    let stopping = Instant::now();
    let pid = up.process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let status = up.process.wait().expect("an end");
    assert!(stopping.elapsed() < SOON, "ended after {:?}", stopping.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(!up.folder.join("var/up.json").exists(), "nobody is announced any more");
    std::fs::remove_dir_all(&up.folder).expect("the folder of this test");
}
