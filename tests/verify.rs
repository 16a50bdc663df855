//! Simulated traffic of every kind, then the whole platform against a reference that shares no code with it.
use std::{fs, io::Write as _, path::Path};

use headwater_cli::{
    Derived, Role, Target,
    replay::{Comparison, From, Name, Plan, replay},
    simulate::{Audience, Line, Outcome, Parameters, Poison, Record, Scenario, Summary, simulate},
    up::Change,
    verify::{Table, verify},
};
use headwater_proto::{EventId, topics::USER_EVENTS};
use headwater_stream::{Clock, Position, SystemClock, replay::Start, testing::RawWriter};
use headwater_tests::{Running, eventually};
use tokio::sync::{Mutex, MutexGuard};

/// The metrics of a process are those of all its platforms, and this is about metrics too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A platform whose groups, and so its numbers, are its own; and where to keep journals.
struct Simulated {
    platform: Running,
    target: Target,
    root: std::path::PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Simulated {
    async fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let platform = Running::start().await;
        let root = std::env::temp_dir().join(platform.name("headwater-journal"));
        Self { target: platform.platform().target(), platform, root, _turn: turn }
    }

    async fn simulate(&self, parameters: &Parameters, rate: Option<f64>) -> Summary {
        let summary = simulate(&self.target, &self.root, parameters, rate, Audience::Nobody).await.expect("a run");
        summary.checked().expect("everything is acknowledged");
        summary
    }

    async fn verify(&self) -> Table {
        let record = Record::newest(&self.root).expect("a journal");
        verify(&self.target, &record, Audience::Nobody).await.expect("a table")
    }

    async fn stop(self) {
        self.platform.stop().await;
        fs::remove_dir_all(self.root).expect("the journals of this test");
    }
}

fn everything(events: usize, seed: u64) -> Parameters {
    let scenarios = vec![Scenario::Normal, Scenario::Takeover, Scenario::Stuffing, Scenario::Travel];
    Parameters { events, seed, scenarios, late: 0.05, duplicates: 0.05 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_out_is_what_must_come_of_what_went_in() {
    let simulated = Simulated::start().await;
    let summary = simulated.simulate(&everything(5_000, 7), None).await;
    assert_eq!((summary.acknowledged, summary.rejected), (5_000, 0));
    assert!(summary.repeated > 100 && summary.straight > 10, "{summary:?}");
    let table = simulated.verify().await;
    assert_eq!(table.differences(), 0, "{table}");
    for row in &table.0 {
        let may_be_none = row.what.contains("dead letters") || row.what.contains("repeated notifications");
        assert!(row.expected > 0 || may_be_none, "nothing to compare: {}\n{table}", row.what);
        assert!(row.note.is_empty(), "{}: {}", row.what, row.note);
    }
    // and once more from the log, beside the documents in memory
    for of in [Derived::Analytics, Derived::Fraud] {
        let plan = Plan { of, from: From(Start::Beginning), until: None, keep: false };
        let settings = simulated.platform.platform().settings();
        let replayed =
            replay(Name::draw(), &plan, &simulated.target, settings, Audience::Nobody).await.expect("a replay");
        assert_eq!(replayed.comparison, Comparison::Equal { with: "the live documents".into() }, "{replayed}");
        assert!(replayed.digest.collections.iter().all(|collection| collection.documents > 0), "{replayed}");
    }
    assert_eq!(simulated.verify().await.differences(), 0, "a replay changes nothing");
    simulated.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_are_stopped_and_started_meanwhile_change_nothing() {
    let simulated = Simulated::start().await;
    let platform = &simulated.platform;
    let before = platform.metric("headwater_ingress_events", &[]).await;
    let accepted = async |n: f64| {
        eventually(&format!("{n} events are accepted"), async || {
            (platform.metric("headwater_ingress_events", &[]).await >= before + n).then_some(())
        })
        .await
    };
    let instances = [(Role::Analytics, 1), (Role::Notification, 2)];
    let disturb = async {
        accepted(500.0).await;
        for (role, number) in instances {
            platform.platform().instances().change(role, number, Change::Stop).await.expect("an instance");
        }
        accepted(2_500.0).await;
        for (role, number) in instances {
            platform.platform().instances().change(role, number, Change::Start).await.expect("an instance");
        }
    };
    let parameters = everything(5_000, 8);
    tokio::join!(simulated.simulate(&parameters, Some(1_000.0)), disturb);
    let table = simulated.verify().await;
    assert_eq!(table.differences(), 0, "{table}");
    simulated.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_acknowledged_and_is_not_there_is_named_and_so_is_an_altered_one() {
    let simulated = Simulated::start().await;
    simulated.simulate(&everything(400, 9), None).await;
    assert_eq!(simulated.verify().await.differences(), 0);

    let record = Record::newest(&simulated.root).expect("a journal");
    let mut lost = record.actions.iter().rfind(|action| action.event_type == "user.logged_in").expect("one").clone();
    lost.event_id = EventId::new(SystemClock.now()).to_string();
    lost.session_id = "a session of its own".into();
    append(&record.folder.join("actions.jsonl"), &lost);
    let line = |outcome| Line { event_id: lost.event_id.clone(), outcome, reason: String::new() };
    append(&record.folder.join("outcomes.jsonl"), &line(Outcome::Unknown));
    let unanswered = verify(&simulated.target, &Record::newest(&simulated.root).unwrap(), Audience::Nobody).await;
    let told = unanswered.expect_err("nobody knows what became of it").to_string();
    assert!(told.contains("1 actions without an answer") && told.contains(&lost.event_id), "{told}");

    append(&record.folder.join("outcomes.jsonl"), &line(Outcome::Acknowledged));
    let table = simulated.verify().await;
    let told = table.to_string();
    assert!(told.contains(&format!("{} (user.logged_in of {}) is missing", lost.event_id, lost.user_id)), "{told}");
    let differs = |what: &str| table.0.iter().any(|row| row.what == what && !row.differences.is_empty());
    assert!(differs("events on the log") && differs("sessions"), "{told}");

    let mut altered = Record::newest(&simulated.root).expect("a journal");
    altered.actions.pop();
    let action = altered.actions.iter_mut().find(|action| action.event_type == "user.ip_changed").expect("one");
    action.ip = "192.0.2.1".into();
    let id = action.event_id.clone();
    let told = verify(&simulated.target, &altered, Audience::Nobody).await.expect("a table").to_string();
    assert!(told.contains(&format!("{id}: expected Fact")), "{told}");
    simulated.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spoilt_on_purpose_must_be_set_aside_by_every_group_and_nothing_else_may_be() {
    let simulated = Simulated::start().await;
    simulated.simulate(&everything(200, 10), None).await;
    let writer = RawWriter::open(simulated.platform.platform().kafka());
    let mut spoilt = Vec::new();
    for value in [b"!".as_slice(), b"{\"eventId\":"] {
        let Position { partition, offset } =
            writer.write(USER_EVENTS.name, None, Some(b"spoilt"), Some(value), &[]).await;
        spoilt.push(Poison { partition, offset });
    }
    let told = simulated.verify().await;
    let differs = |table: &Table, what: &str| table.0.iter().any(|row| row.what == what && !row.differences.is_empty());
    assert!(differs(&told, "events on the log") && differs(&told, "dead letters"), "{told}");

    let mut record = Record::newest(&simulated.root).expect("a journal");
    record.add_poison(spoilt.iter().copied()).expect("it is written down");
    let told = simulated.verify().await;
    assert_eq!(told.differences(), 0, "{told}");

    // not spoilt at all, and so in nobody's dead letters
    record.add_poison([Poison { partition: spoilt[0].partition, offset: spoilt[0].offset + 2 }]).expect("written");
    let told = simulated.verify().await;
    assert!(differs(&told, "dead letters"), "{told}");
    simulated.stop().await;
}

fn append(path: &Path, line: &impl serde::Serialize) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("the journal");
    writeln!(file, "{}", serde_json::to_string(line).expect("JSON")).expect("a line");
}
