use super::*;
use crate::load::{Load, assert_complete_and_in_order};

/// Load and two members; `harm` does what it does to the broker; everybody goes on without being started anew.
async fn survives(what: &str, harm: impl AsyncFnOnce()) {
    let _alone = BROKER.lock().await;
    let stage = Stage::open().await;
    let log = Log::default();
    let members = [stage.member("1", &log), stage.member("2", &log)];
    stage.ready().await;
    let load = Load::start(&stage);
    eventually("records flow", async || log.distinct(), |distinct| *distinct > 500).await;
    harm().await;
    let healed = Instant::now();
    let before = load.written();
    eventually("the producer goes on", async || load.written(), |written| *written > before).await;
    let produced = healed.elapsed();
    let seen = log.distinct();
    eventually("the consumers go on", async || log.distinct(), |distinct| *distinct > seen).await;
    eprintln!(
        "{what}: after healing the producer went on within {produced:.1?}, consumers within {:.1?}",
        healed.elapsed()
    );
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
    assert_complete_and_in_order(&log.all(), total);
    eprintln!(
        "{what}: {total} records, {} of them twice, all well {:.1?} after healing",
        log.all().len() - total,
        healed.elapsed()
    );
    let told = Instant::now();
    for member in members {
        member.stop().await;
    }
    let count = |name, client| metric(name, &[client]);
    eprintln!(
        "{what}: both stopped in {:.1?}; began anew at the bootstrap addresses: {} consumers, {} producers; {} rebuilt, {} abandoned",
        told.elapsed(),
        count(names::CLIENT_BOOTSTRAPS, "consumer"),
        count(names::CLIENT_BOOTSTRAPS, "producer"),
        metric(names::CLIENT_REBUILDS, &[]),
        metric(names::CLIENT_ABANDONED, &[])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_started_again_under_load_costs_nothing_but_time() {
    survives("kill -9", async || {
        stack("kill").await;
        tokio::time::sleep(Duration::from_secs(5)).await; // the fault itself: so long nobody is there
        stack("up").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_frozen_for_15_seconds_costs_nothing_but_time() {
    survives("SIGSTOP 15 s", async || {
        stack("stop").await;
        tokio::time::sleep(Duration::from_secs(15)).await; // the fault itself
        stack("cont").await;
    })
    .await;
}
