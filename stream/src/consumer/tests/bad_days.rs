//! What a consumer does when the deploy, the log or the broker is broken.
use super::*;
use crate::{
    INJECTED, Watch,
    testing::{RawWriter, read_topic},
};

fn waiting(stage: &Stage) -> String {
    stage.readiness.waiting().into_iter().map(|(_, why)| why).collect()
}

fn total(counts: BTreeMap<String, u64>) -> u64 {
    counts.values().sum()
}

async fn write_many(stage: &Stage, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    let records: Vec<_> = values.iter().map(|value| (1, "ann", value.as_str())).collect();
    stage.write(&records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_seems_all_dead_is_left_alone_and_tried_again_until_it_is_well() {
    let stage = Stage::new();
    let handler = Recorder::default();
    let mut config = stage.config("1");
    config.breaker_pause = Duration::from_secs(2);
    let member = stage.batches(config, handler.clone());
    stage.ready().await;
    write_many(&stage, (0..1_000).map(|n| format!("!{n}"))).await;
    eventually("it says why", || waiting(&stage), |why| why.contains("200 of the last 200 records are dead")).await;
    let dead = || total(stage.ended("dead"));
    eventually("what was decided is reported", dead, |dead| *dead >= 200).await;
    let first = read_topic(&stage.kafka, ANALYTICS_DLQ.name).await.unwrap().len();
    assert!((200..260).contains(&first), "{first} letters, although it paused");
    eventually("it tries some, and pauses again", dead, |dead| *dead >= 205).await;
    assert!(dead() < 260, "{} are dead after a probe", dead());
    assert!(total(stage.counted(names::CONSUMER_BREAKER_TRIPS, &[])) >= 1);
    member.stop().await;

    // the deploy is mended: what was poison is none
    let judge = Judge::new(|_| Verdict::Done);
    let mut config = stage.config("2");
    config.breaker_pause = Duration::from_secs(1);
    let done = || total(stage.ended("done"));
    write_many(&stage, (0..30).map(|n| n.to_string())).await;
    let mended = Mended(judge);
    let stop = CancellationToken::new();
    let component = stage.readiness.component("2");
    let run = tokio::spawn(run_events(config, Arc::new(mended), stage.producer.clone(), component, stop.clone()));
    eventually("the rest is done", done, |done| *done >= 700).await;
    Member { stop, run }.stop().await;
}

/// Takes everything for an item.
struct Mended(Arc<Judge>);

impl EventHandler for Mended {
    type Item = String;

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<String>, Poison> {
        Ok(Decoded::Item(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()))
    }

    async fn handle(&self, delivery: &Delivery<String>) -> Verdict {
        self.0.handle(delivery).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_on_request_do_not_open_the_breaker() {
    let stage = Stage::new();
    let judge = Judge::new(|_| Verdict::Dead(INJECTED));
    let member = stage.events(stage.config("1"), &judge);
    write_many(&stage, (0..600).map(|n| n.to_string())).await;
    eventually("all are dead", || total(stage.ended("dead")), |dead| *dead == 600).await;
    assert_eq!(total(stage.counted(names::CONSUMER_BREAKER_TRIPS, &[])), 0);
    member.stop().await;
}

/// More than the embedded broker keeps of a partition.
async fn overflow(stage: &Stage) {
    let writer = RawWriter::open(&stage.kafka); // which does not compress
    for _ in 0..20 {
        writer.write(USER_EVENTS.name, Some(0), Some(b"ann"), Some(&[b'x'; 400_000]), &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_begins_above_the_next_record_stops_its_partition_alone_and_says_so() {
    let stage = Stage::new();
    overflow(&stage).await;
    let (positions, handler) = (Positions::new(), Recorder::default());
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config.clone(), handler.clone());
    eventually("it says so", || waiting(&stage), |why| why.contains("stopped at partition 0 of user.events")).await;
    let lost = total(stage.counted(names::LOG_TRUNCATED_RECORDS, &[("reason", "truncated")]));
    assert!((1..20).contains(&lost), "{lost} counted as lost of 20");
    stage.write(&[(0, "ann", "after"), (5, "bob", "flows")]).await;
    eventually("the others flow", || handler.log.items(), |items| items == &["flows"]).await;
    member.stop().await;
    assert_eq!(positions.next(0), 0, "nothing was skipped");

    config.accept_truncation = true;
    let member = stage.batches(config, handler.clone());
    let items = || handler.log.all().iter().filter(|seen| seen.position.partition == 0).count() as u64;
    eventually("it goes on where the log begins", items, |items| *items == 21 - lost).await;
    stage.ready().await;
    member.stop().await;
    assert_eq!(positions.next(0), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_below_the_next_record_has_begun_anew() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "new 0"), (0, "ann", "new 1")]).await;
    let (positions, handler) = (Positions::new(), Recorder::default());
    positions.advance(0, 50);
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config.clone(), handler.clone());
    eventually("it says so", || waiting(&stage), |why| why.contains("which has begun anew")).await;
    assert_eq!(stage.counted(names::LOG_TRUNCATED_RECORDS, &[]), BTreeMap::from([("restarted".to_owned(), 48)]));
    member.stop().await;
    assert_eq!(handler.log.items(), Vec::<String>::new());

    config.accept_truncation = true;
    let member = stage.batches(config, handler.clone());
    eventually("it reads the new log", || positions.next(0), |next| *next == 2).await;
    assert_eq!(handler.log.items(), ["new 0", "new 1"]);
    member.stop().await;
}

const QUICK: Watch = Watch {
    statistics: Duration::from_millis(200),
    disconnected: Duration::from_secs(1),
    unreported: Duration::from_secs(1),
    starved: Duration::from_secs(2),
    outage: Duration::from_secs(1),
    rebuilds: 3,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_for_long_ends_nothing_and_new_clients_find_it_again() {
    let mut stage = Stage::new();
    stage.kafka.watch = QUICK;
    let handler = Recorder::default();
    stage.write(&[(0, "ann", "a0")]).await;
    let member = stage.batches(stage.config("1"), handler.clone());
    eventually("the first applied", || handler.log.len(), |len| *len == 1).await;
    stage.broker.go_down();
    let rebuilt = || total(stage.counted(names::CLIENT_REBUILDS, &[("client", "consumer")]));
    eventually("clients are replaced", rebuilt, |rebuilt| *rebuilt >= 2).await;
    assert!(waiting(&stage).contains("no kafka broker is up"), "{}", waiting(&stage));
    stage.broker.come_back();
    stage.write(&[(0, "ann", "a1"), (9, "bob", "b0")]).await;
    let items = || handler.log.items();
    eventually("it goes on", items, |i| i.contains(&"a1".to_owned()) && i.contains(&"b0".to_owned())).await;
    stage.ready().await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_told_to_stop_while_its_broker_is_away_ends_in_time_and_counts_what_may_come_again() {
    // as long as it may, and too short for the client to see by itself that its commit goes nowhere
    for parting in [None, Some(Duration::from_millis(300))] {
        let mut stage = Stage::new();
        stage.kafka.auto_commit = Duration::from_secs(3_600); // so that nothing but the end commits
        let handler = Recorder::default();
        stage.write(&[(0, "ann", "a0"), (0, "ann", "a1"), (7, "bob", "b0")]).await;
        let mut config = stage.config("1");
        config.parting = parting.unwrap_or(config.parting);
        let member = stage.batches(config, handler.clone());
        let done = || total(stage.ended("done"));
        eventually("all are done", done, |done| *done == 3).await;
        stage.broker.go_down();
        let told = Instant::now();
        member.stop().await;
        assert!(told.elapsed() < Duration::from_secs(5), "it ended only after {:?}", told.elapsed());
        let hand_overs = stage.counted(names::CONSUMER_HAND_OVERS, &[]);
        assert!(!hand_overs.contains_key("clean") && total(hand_overs.clone()) == 1, "{hand_overs:?}");
        let abandoned = total(stage.counted(names::CLIENT_ABANDONED, &[]));
        assert!(parting.is_none() || abandoned == 1, "{abandoned} were left to end by themselves");
        assert_eq!(total(stage.counted(names::CONSUMER_POSSIBLE_DUPLICATES, &[])), 3);

        // once the broker is back they do, unless a client that was left to end by itself gets its commit through before
        // the next member is in; either way that one goes on where the group stands
        stage.broker.come_back();
        stage.write(&[(0, "ann", "a2"), (7, "bob", "b1")]).await;
        let mut config = stage.config("2");
        config.kafka.auto_commit = Duration::from_millis(200);
        let member = stage.batches(config, handler.clone());
        all_is_committed(&stage).await;
        member.stop().await;
        let came = handler.log.items();
        assert!(
            ["a2", "b1"].iter().all(|new| came.iter().any(|item| item == new)),
            "committed without being read: {came:?}"
        );
        let (again, counted) = (came.len() - 5, total(stage.counted(names::CONSUMER_POSSIBLE_DUPLICATES, &[])));
        assert!(again >= 3 || abandoned == 1, "nobody could commit, and still not all came again: {came:?}");
        assert!(again as u64 <= counted, "{again} came again, {counted} were announced: {came:?}");
    }
}

/// The group stands at the end of every partition.
async fn all_is_committed(stage: &Stage) {
    let group = stage.config("any").group_id();
    let start = Instant::now();
    loop {
        let lag = crate::groups::lag(&stage.kafka, &group, USER_EVENTS.name).await.unwrap();
        let behind: Vec<_> = lag.iter().filter(|lag| lag.committed.unwrap_or(0) < lag.end).collect();
        if behind.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "not all is committed within {DEADLINE:?}: {behind:?}");
    }
}

/// Takes connections and answers nothing.
fn mute_broker() -> (std::net::TcpListener, KafkaConfig) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, KafkaConfig { watch: QUICK, ..KafkaConfig::new(address) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_in_reach_that_three_new_clients_cannot_talk_to_ends_the_run() {
    let mut stage = Stage::new();
    let (_listener, kafka) = mute_broker();
    stage.kafka = kafka;
    let member = stage.batches(stage.config("1"), Recorder::default());
    let error = member.end().await.unwrap_err();
    assert!(matches!(error, Error::Stalled { rebuilds: 3, .. }), "{error:?}");
    assert_eq!(stage.counted(names::CLIENT_REBUILDS, &[]), BTreeMap::from([("disconnected".to_owned(), 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_gets_nowhere_gives_back_what_it_holds_and_after_three_says_so() {
    let (_listener, kafka) = mute_broker();
    let producer = Producer::open(&kafka, Patience::Forever).unwrap();
    let start = Instant::now();
    let mut purged = 0;
    let error = loop {
        assert!(start.elapsed() < DEADLINE, "{purged} times purged");
        match producer.enqueue([outbound(0, "ann", b"a0")]).await {
            Ok(reports) => {
                assert_eq!(reports.await, [Err(crate::SendError::Purged)]);
                purged += 1;
                producer.purge();
            }
            Err(Error::Broken) => producer.purge(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Stalled { .. }), "{error:?}");
    assert_eq!(purged, 4);
    assert!(producer.enqueue([outbound(0, "ann", b"a0")]).await.is_ok(), "who goes on gets another one");
}
