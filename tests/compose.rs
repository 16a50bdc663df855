//! The platform in containers, as deploy/compose.yaml describes it: what holds of it in one process holds of it there,
//! also while its containers are killed, added and taken away, and nothing of it stays behind.
mod compose {
    pub(crate) mod project;
}

use std::{collections::BTreeSet, time::Duration};

use compose::project::Project;
use headwater_cli::{
    simulate::{Audience, Parameters, Record, Scenario, simulate},
    verify::verify,
};
use headwater_proto::topics::{NOTIFICATION, USER_EVENTS};
use headwater_stream::groups::describe;
use headwater_tests::{
    eventually, eventually_within,
    scenarios::{bad_input, takeover},
};
use tokio::sync::Mutex;

/// Each platform takes most of a machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
/// Actions per second: the document store of the stand-in images is far slower than MongoDB.
const RATE: f64 = 100.0;
/// A process that finds no broker at its start ends after a minute and is started again, later each time.
const HEALED: Duration = Duration::from_secs(180);
/// Every container that the log passes through, in the order in which they are killed.
const KILLED: [&str; 7] = ["ingress", "analytics", "notification", "fraud", "kafka", "postgres", "mongo"];

/// Traffic of every kind while the platform is disturbed, then all of it against the reference.
async fn withstands(project: &Project, events: usize, seed: u64, disturbed: impl Future<Output = ()>) {
    let scenarios = vec![Scenario::Normal, Scenario::Takeover, Scenario::Stuffing, Scenario::Travel];
    let parameters = Parameters { events, seed, scenarios, late: 0.05, duplicates: 0.02 };
    // simulate asks for the outbox only, so it needs no address that may change meanwhile
    let mut target = project.target();
    target.admins = vec![target.addresses.admin];
    let journals = project.journals();
    let driven = simulate(&target, &journals, &parameters, Some(RATE), Audience::Nobody);
    let platform = project.reached();
    let disturbed = async {
        eventually("the traffic flows", async || {
            (platform.metric("headwater_ingress_events", &[]).await > 200.0).then_some(())
        })
        .await;
        disturbed.await;
    };
    let (summary, ()) = tokio::join!(driven, disturbed);
    summary.expect("a run").checked().expect("everything is acknowledged");
    let record = Record::newest(&journals).expect("a journal");
    let table = verify(&project.target(), &record, Audience::Nobody).await.expect("a table");
    assert_eq!(table.differences(), 0, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_in_one_process_holds_in_containers() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let project = Project::up().await;
    takeover::a_takeover_comes_back_as_a_forced_reset(&project.reached()).await;
    takeover::a_reinstated_account_opens_again(&project.reached()).await;
    let platform = project.reached();
    bad_input::every_bad_field_is_named_at_once(&platform).await;
    bad_input::a_bad_item_is_answered_and_the_stream_goes_on(&platform).await;
    bad_input::garbage_is_dead_lettered_by_every_group(&platform).await;
    project.down();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_container_is_killed_once_and_comes_back_by_itself_and_nothing_is_lost() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let project = Project::up().await;
    // the next is killed as soon as the one before is there again, ready or not
    let killed = async {
        for container in KILLED.iter().flat_map(|service| project.containers(service)) {
            let before = project.restarts(&container);
            project.crash(&container);
            eventually(&format!("container {container} is started again"), async || {
                (project.restarts(&container) > before).then_some(())
            })
            .await;
        }
        eventually_within(HEALED, "everything is healthy again", async || project.is_healthy().then_some(())).await;
    };
    withstands(&project, 12_000, 11, killed).await;
    project.down();
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_under_load_and_their_partitions_move() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let project = Project::up().await;
    let owned_by = async |instances: usize| {
        let kafka = project.kafka();
        eventually(&format!("{instances} instances share the {} partitions", USER_EVENTS.partitions), async || {
            let group = describe(&kafka, NOTIFICATION.id, USER_EVENTS.name).await.ok()?;
            let members = group.membership?.members;
            let busy = members.iter().filter(|member| !member.partitions.is_empty()).count();
            let owned: BTreeSet<i32> = members.iter().flat_map(|member| member.partitions.clone()).collect();
            (busy == instances && members.len() == instances && owned.len() == USER_EVENTS.partitions as usize)
                .then_some(())
        })
        .await;
    };
    let scale = |instances: &str| {
        let scale = format!("notification={instances}");
        project.compose(&[
            "up",
            "--detach",
            "--no-build",
            "--no-recreate",
            "--wait",
            "--scale",
            &scale,
            "notification",
        ]);
    };
    let moved = async {
        owned_by(3).await;
        scale("5");
        owned_by(5).await;
        // all at once, and nobody starts them again
        project.compose(&["kill", "--signal", "SIGKILL", "notification"]);
        scale("4");
        owned_by(4).await;
        scale("2");
        owned_by(2).await;
    };
    withstands(&project, 8_000, 12, moved).await;
    project.down();
}
