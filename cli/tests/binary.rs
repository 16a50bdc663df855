//! The binary as a shell sees it: exit codes, what it prints, what it leaves behind.
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use headwater_cli::settings::ports;
use serde_json::Value;

/// Nobody listens on port 1.
const NO_BROKER: &str = "127.0.0.1:1";
const KAFKA: (&str, &str) = ("KAFKA_BROKERS", NO_BROKER);

/// In an empty folder, with this environment and no other, on free ports where it names none.
fn headwater(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.env_clear().current_dir(folder).args(args);
    command.envs(ports().map(|port| (port, "0"))).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Waits for `work` on a thread of its own and says what it waited for instead of hanging.
fn within<T: Send + 'static>(what: &str, limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(limit).unwrap_or_else(|_| panic!("waited {limit:?} for {what}"))
}

fn ended(child: Child) -> (Option<i32>, String) {
    let output: Output =
        within("the process to end", Duration::from_secs(30), move || child.wait_with_output().unwrap());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Nobody listens on port 1 for stores either.
const NO_MONGODB: &[(&str, &str)] = &[("MONGODB_URI", "mongodb://ada:hunter2@127.0.0.1:1/db")];
const NO_POSTGRES: &[(&str, &str)] = &[("DATABASE_URL", "postgres://ada:hunter2@127.0.0.1:1/db")];

/// arguments, environment -> exit code, a part of the message
type Ended = (&'static [&'static str], &'static [(&'static str, &'static str)], i32, &'static str);

#[test]
fn whose_fault_it_is_shows_in_the_exit_code_and_the_message_says_what_to_do() {
    let folder = folder("exit-codes");
    fs::write(folder.join("typo.toml"), "http_prot = 1").unwrap();
    #[rustfmt::skip]
    let table: &[Ended] = &[
        (&["config"], &[], 0, ""),
        (&["up", "--no-such-flag"], &[], 2, "--no-such-flag"),
        (&["groups"], &[], 2, "no `headwater up` runs in this folder"),
        (&["groups"], &[KAFKA], 3, "no answer from the kafka broker at 127.0.0.1:1"),
        (&["config", "--reflection", "--accept-truncation=false"], &[], 0, ""),
        (&["config"], &[("HTTP_PORT", "eighty")], 2, "HTTP_PORT: \"eighty\" must be a port"),
        (&["config", "--http-port", "eighty"], &[], 2, "--http-port: \"eighty\" must be a port"),
        (&["config", "--config", "typo.toml"], &[], 2, "typo.toml: no setting is called http_prot"),
        (&["config", "--config", "missing.toml"], &[], 2, "missing.toml: cannot be read"),
        (&["serve", "analytics"], &[], 2, "analytics needs KAFKA_BROKERS, analytics needs MONGODB_URI"),
        (&["serve", "ingress"], &[KAFKA], 2, "ingress needs DATABASE_URL"),
        (&["serve", "ingress"], &[KAFKA, ("DATABASE_URL", "mysql://db")], 2, "DATABASE_URL: must be a PostgreSQL URL"),
        (&["serve", "activity"], &[("PORT", "eighty")], 2, "PORT: \"eighty\" must be a port"),
        (&["serve", "activity"], &[KAFKA], 3, NO_BROKER),
        (&["serve", "activity", "fraud"], &[("PORT", "eighty")], 2, "activity needs KAFKA_BROKERS"),
        (&["up"], &[("MONGODB_URI", "mysql://db")], 2, "MONGODB_URI: must be a MongoDB URI"),
        (&["up"], NO_MONGODB, 2, "set KAFKA_BROKERS too, or unset MONGODB_URI"),
        (&["serve", "fraud", "--kafka-brokers", NO_BROKER], NO_MONGODB, 3, "the document store at 127.0.0.1:1 cannot be used"),
        (&["up"], NO_POSTGRES, 3, "PostgreSQL at 127.0.0.1:1 cannot be used; see that it runs there"),
        (&["simulate"], &[], 2, "no `headwater up` runs in this folder"),
        (&["simulate", "--late", "5"], &[], 2, "must be a share like 5% or 0.05"),
        (&["simulate", "--scenario", "norml"], &[], 2, "possible values: normal, takeover, stuffing, travel"),
        (&["simulate", "--admin-port", "1"], &[KAFKA], 3, "no metrics at http://127.0.0.1:1/metrics"),
        (&["health", "--admin-port", "1"], &[], 3, "no answer from http://127.0.0.1:1/readyz"),
        (&["verify"], &[KAFKA], 2, "no journal in var/simulate: run `headwater simulate` first"),
        (&["topics", "apply"], &[], 2, "KAFKA_BROKERS is not set"),
        (&["topics", "apply"], &[KAFKA], 3, NO_BROKER),
    ];
    for (args, environment, code, message) in table {
        let (seen, stderr) = ended(headwater(&folder, args, environment).spawn().unwrap());
        assert_eq!(seen, Some(*code), "{args:?} {environment:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?} {environment:?}: {stderr}");
        assert!(!stderr.contains("://db") && !stderr.contains("hunter2"), "a secret in {stderr}");
    }
}

#[test]
fn a_process_that_is_not_ready_says_what_it_waits_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let health = headwater(&folder("health"), &["health"], &[("ADMIN_PORT", &port)]).spawn().unwrap();
    let mut asked = within("the question", Duration::from_secs(30), move || {
        let mut lines = BufReader::new(listener.accept().unwrap().0);
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        lines.into_inner()
    });
    // as otel/src/admin.rs answers
    let body = r#"{"ready":false,"waiting":[{"component":"fraud-1","reason":"mongodb is unavailable"}]}"#;
    let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
    asked.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let (code, stderr) = ended(health);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("not ready: fraud-1: mongodb is unavailable"), "{stderr}");
}

#[test]
fn a_taken_port_is_named_with_the_variable_that_changes_it() {
    let folder = folder("taken-port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for variable in ports() {
        let (code, stderr) = ended(headwater(&folder, &["up"], &[(variable, &port)]).spawn().unwrap());
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(&format!("port {port} on 127.0.0.1 cannot be opened; set {variable}")), "{stderr}");
    }
    assert!(!folder.join("var/up.json").exists());
}

#[test]
fn up_says_where_things_are_and_ends_cleanly_when_asked() {
    let folder = folder("up");
    let names = [("ACTIVITY_KAFKA_TOPIC", "clicks"), ("ACTIVITY_KAFKA_CONSUMER_GROUP", "clickers")];
    let mut child = headwater(&folder, &["up"], &names).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let printed = within("the banner", Duration::from_secs(30), move || {
        let mut lines = Vec::new();
        for line in stdout.lines().map(Result::unwrap) {
            lines.push(line);
            if lines.last().is_some_and(|line| line.starts_with("Ctrl-C")) {
                break;
            }
        }
        lines.join("\n")
    });

    let announced = fs::read_to_string(folder.join("var/up.json")).unwrap();
    let announced: Value = serde_json::from_str(&announced).unwrap();
    assert_eq!(announced["pid"], child.id());
    for door in ["ingress", "http", "analytics", "fraud", "admin"] {
        let address = announced["addresses"][door].as_str().unwrap();
        assert!(printed.contains(address), "{door} at {address} is not in\n{printed}");
    }
    assert!(printed.contains(announced["kafka"]["bootstrap"].as_str().unwrap()), "{printed}");
    let admin = announced["addresses"]["admin"].as_str().unwrap().rsplit_once(':').unwrap().1;
    let health = headwater(&folder, &["health", "--admin-port", admin], &[]).spawn().unwrap();
    assert_eq!(ended(health), (Some(0), String::new()));
    let groups = headwater(&folder, &["groups"], &names).output().unwrap();
    let groups = String::from_utf8(groups.stdout).unwrap();
    assert!(groups.contains("\nclickers on clicks: lag 0 records"), "{groups}");

    let asked = Instant::now();
    let signalled = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let (code, stderr) = ended(child);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("trouble with its broker"), "a client outlived the embedded broker: {stderr}");
    assert!(asked.elapsed() < Duration::from_secs(5), "an idle platform took {:?} to end", asked.elapsed());
    assert!(!folder.join("var/up.json").exists());
}
