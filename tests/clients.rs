//! The clients of `clients/`, run by the commands of their pages in `docs/clients`, each on a platform nobody has used yet.
//! `clients/build` comes first, as in `make clients` and `make test`.
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use headwater_proto::v1::{AccountStatus, GetDailyActiveUsersRequest};
use headwater_tests::{Logged, Running};
use tokio::task::spawn_blocking;

const ACTIONS: usize = 10;
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("python", "python", "main.py"),
    ("go", "go", "main.go"),
    ("typescript", "ts", "src/main.ts"),
    ("java", "java", "src/main/java/dev/headwater/client/Main.java"),
];

/// What the program prints: a word at the start of a line, then what is said of it, with the indented lines below.
type Printed = HashMap<String, String>;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(language: &str) -> String {
    fs::read_to_string(checkout().join(format!("docs/clients/{language}.md"))).expect("the client's page")
}

/// The code of this kind in a text.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    text.split("\n```").filter_map(|rest| rest.strip_prefix(kind)?.strip_prefix('\n')).collect()
}

fn call(language: &str, address: &str) -> Printed {
    let page = page(language);
    let (_, section) = page.split_once("\n## Call\n").expect("how to call");
    let [command] = blocks(section, "sh")[..] else { panic!("one command calls the platform: {section}") };
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).current_dir(checkout()).env("HEADWATER_ADDRESS", address);
    let called = bash.output().expect("bash");
    let (out, err) = (String::from_utf8_lossy(&called.stdout), String::from_utf8_lossy(&called.stderr));
    assert!(called.status.success(), "{command} (after clients/build {language}?): {}\n{out}{err}", called.status);
    eprintln!("{command}\n{out}");
    let mut printed = Printed::new();
    let mut word = String::new();
    for line in out.lines() {
        if let Some(more) = line.strip_prefix("  ") {
            printed.entry(word.clone()).or_default().push_str(&format!("; {more}"));
        } else if let Some((key, said)) = line.split_once("  ") {
            word = key.trim().to_owned();
            printed.insert(word.clone(), said.trim().to_owned());
        }
    }
    printed
}

/// Runs it, and holds what it says against what the platform has.
async fn check(language: &'static str) {
    let platform = Running::start().await;
    let address = platform.platform().addresses().http.to_string();
    let today = platform.today();
    let printed = spawn_blocking(move || call(language, &address)).await.expect("the client's run");
    let said =
        |word: &str| printed.get(word).unwrap_or_else(|| panic!("{language} says no {word}: {printed:?}")).as_str();

    assert_eq!(said("recorded"), format!("{ACTIONS} of {ACTIONS}"));
    let (active, day) = said("active").split_once(" on ").expect("a count and a day");
    assert_eq!(active, "1");
    // a run may cross midnight
    assert!([today, platform.today()].iter().any(|known| known.to_string() == day), "{day}");
    let request = GetDailyActiveUsersRequest { day: day.to_owned() };
    let counted = platform.analytics().get_daily_active_users(request).await.expect("a count").into_inner();
    assert_eq!(counted.active_users, 1);
    assert!(said("risk").starts_with("30 ") && said("risk").ends_with("FLAGGED by login_failure_burst"), "{printed:?}");
    assert_eq!(
        said("refused"),
        "INVALID_FIELD; email must be an email address, like ada@example.com; password must have at least 8 bytes"
    );

    let user = said("registered");
    platform.user_once(user, AccountStatus::Flagged).await;
    let log = platform.records("user.events").await;
    let of_type = |name: &str| -> Vec<&Logged> {
        log.iter().filter(|record| record.header("ce_type") == Some(name) && record.key() == user).collect()
    };
    assert_eq!(of_type("user.login_failed").len(), ACTIONS);
    for name in ["user.created", "user.logged_in"] {
        let [record] = of_type(name)[..] else { panic!("one {name} of {user}") };
        let context = record.header("traceparent").unwrap_or_default();
        assert!(
            said("trace").len() == 32 && context.contains(said("trace")),
            "{name} is of trace {context}, {printed:?}"
        );
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_is_understood() {
    check("python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_client_is_understood() {
    check("go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_is_understood() {
    check("typescript").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_is_understood() {
    check("java").await;
}

#[test]
fn the_pages_quote_their_programs() {
    let flat = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    for (language, fence, program) in PROGRAMS {
        let source = fs::read_to_string(checkout().join("clients").join(language).join(program)).expect("the program");
        let page = page(language);
        let quotes = blocks(&page, fence);
        assert!(quotes.len() >= 3, "{language}: a header, a stream and an error are shown");
        for quote in quotes {
            assert!(flat(&source).contains(flat(quote).trim()), "not in {program} as shown:\n{quote}");
        }
    }
}
