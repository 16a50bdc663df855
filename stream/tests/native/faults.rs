use super::*;
use crate::load::{Load, assert_complete_and_in_order};

/// Longer than the group waits for a member, and the cluster for a broker.
const FROZEN: Duration = Duration::from_secs(8);

/// Load and two members; `harm` does what it does to the broker; everybody goes on without being started anew.
async fn survives(what: &str, harm: impl AsyncFnOnce(&Stage, &Load)) {
    let _alone = BROKER.write().await;
    let stage = Stage::open().await;
    let log = Log::default();
    let members = [stage.member("1", &log), stage.member("2", &log)];
    stage.ready().await;
    let load = Load::start(&stage);
    eventually("records flow", async || log.distinct(), |distinct| *distinct > 500).await;
    harm(&stage, &load).await;
    let healed = Instant::now();
    let before = load.written();
    eventually("the producer goes on", async || load.written(), |written| *written > before).await;
    let produced = healed.elapsed();
    let seen = log.distinct();
    eventually("the consumers go on", async || log.distinct(), |distinct| *distinct > seen).await;
    let consumed = healed.elapsed();
    let more = load.written() + 500;
    eventually("load after it", async || load.written(), |written| *written > more).await;
    let total = load.stop().await;
    eventually("everything is there", async || log.distinct(), |distinct| *distinct == total).await;
    let lag = async || {
        let partitions = headwater_stream::groups::lag(&stage.kafka, stage.group.id, stage.group.topic.name).await;
        partitions.unwrap().iter().map(headwater_stream::groups::PartitionLag::records).sum::<i64>()
    };
    eventually("lag 0", lag, |lag| *lag == 0).await;
    stage.ready().await;
    let well = healed.elapsed();
    assert_complete_and_in_order(&log.all(), total);
    let told = Instant::now();
    for member in members {
        member.stop().await;
    }
    eprintln!(
        "{what}: after healing the producer on in {produced:.1?}, consumers in {consumed:.1?}, all well in {well:.1?}; \
         {total} records, {} twice; both stopped in {:.1?}; clients that got their bootstrap addresses again {}, \
         rebuilt {}, abandoned {}",
        log.all().len() - total,
        told.elapsed(),
        metric(names::CLIENT_BOOTSTRAPS, &[]).abs(),
        metric(names::CLIENT_REBUILDS, &[]).abs(),
        metric(names::CLIENT_ABANDONED, &[]).abs(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_started_again_under_load_costs_nothing_but_time() {
    survives("kill -9", async |stage, _| {
        let errors = async || metric(names::CONSUMER_ERRORS, &[stage.group.id]);
        let before = errors().await;
        stack("kill").await;
        eventually("the clients notice", errors, |errors| *errors > before).await;
        stack("up").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_frozen_for_longer_than_a_session_costs_nothing_but_time() {
    survives("SIGSTOP", async |_, load| {
        stack("stop").await;
        let (frozen, written) = (Instant::now(), load.written());
        let mut ticks = interval(Duration::from_millis(250));
        while frozen.elapsed() < FROZEN {
            ticks.tick().await;
            // what was reported before the freeze may be counted after it
            assert!(load.written() <= written + 24, "a frozen broker took records");
        }
        stack("cont").await;
    })
    .await;
}
