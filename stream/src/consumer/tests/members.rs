use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use super::*;

/// Every value written came, and those of each key came in their order (repeats aside).
fn assert_complete_and_in_order(seen: &[Seen], written: &BTreeMap<String, usize>) {
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for Seen { item, .. } in seen {
        let (key, number) = item.split_once('-').unwrap();
        let number: usize = number.parse().unwrap();
        let next = next.entry(key).or_default();
        assert!(number <= *next, "{key}: {number} came while {next} was due");
        *next = (*next).max(number + 1);
    }
    for (key, count) in written {
        assert_eq!(next.get(key.as_str()), Some(count), "{key}: lost records");
    }
}

/// Writes `count` numbered records to each of 24 keys, two per partition.
async fn write_numbered(stage: &Stage, written: &mut BTreeMap<String, usize>, count: usize) {
    for _ in 0..count {
        let mut round = Vec::new();
        for key in 0..24 {
            let name = format!("k{key}");
            let number = written.entry(name.clone()).or_default();
            round.push((key % 12, name.clone(), format!("{name}-{number}")));
            *number += 1;
        }
        stage.write(&round.iter().map(|(p, key, value)| (*p, key.as_str(), value.as_str())).collect::<Vec<_>>()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_joins_mid_stream_and_nothing_is_lost_or_reordered() {
    let stage = Stage::new();
    let log = Log::default();
    let recorder = |member| Recorder { member, log: log.clone(), ..Recorder::default() };
    let mut written = BTreeMap::new();
    let turns = Arc::new(Semaphore::new(1)); // so that a revocation meets a batch in flight
    let one = Recorder { turns: Some(turns.clone()), ..recorder("1") };
    let first = stage.batches(stage.config("1"), one.clone());
    write_numbered(&stage, &mut written, 20).await;
    eventually("the first is at work", || log.len(), |len| *len > 0).await;
    let second = stage.batches(stage.config("2"), recorder("2"));
    let joined = || log.all().iter().any(|seen| seen.member == "2");
    let start = Instant::now();
    while !joined() {
        assert!(start.elapsed() < DEADLINE, "the second member got nothing");
        write_numbered(&stage, &mut written, 5).await;
        turns.add_permits(1);
    }
    turns.add_permits(Semaphore::MAX_PERMITS / 2);
    write_numbered(&stage, &mut written, 20).await;
    let total: usize = written.values().sum();
    let distinct = || log.items().into_iter().collect::<std::collections::BTreeSet<_>>().len();
    eventually("everything applied", distinct, |distinct| *distinct == total).await;
    assert_complete_and_in_order(&log.all(), &written);
    let moved = one.revoked.lock().unwrap().clone();
    assert!(!moved.is_empty(), "the first kept everything");

    // and back: the partitions of a member that leaves go on where it stopped
    second.stop().await;
    write_numbered(&stage, &mut written, 5).await;
    let total: usize = written.values().sum();
    eventually("everything after it left", distinct, |distinct| *distinct == total).await;
    assert_complete_and_in_order(&log.all(), &written);
    first.stop().await;
    // the mock refuses commits while anybody joins, and puts out who is slow to join again: then records come twice
    let hand_overs = stage.counted(names::CONSUMER_HAND_OVERS, &[]);
    if hand_overs.keys().all(|how| how == "clean") {
        assert_eq!(log.len(), total, "a clean hand-over repeated records");
        assert_eq!(moved.len(), 6, "a fair share moves, and nothing else: {moved:?}");
    }
    assert_eq!(stage.ended("done"), BTreeMap::from([(String::new(), log.len() as u64)]), "a record was counted twice");
}

const BROKERS: &str = "HEADWATER_TEST_BROKERS";

/// Not a test by itself: the process that the next test kills. It takes records and never finishes one.
#[tokio::test(flavor = "multi_thread")]
async fn member_of_another_process() {
    let Ok(brokers) = std::env::var(BROKERS) else { return };
    struct Hangs;
    impl BatchHandler for Hangs {
        type Item = String;
        fn decode(record: &Record<'_>) -> Result<Decoded<String>, Poison> {
            decode(record)
        }
        async fn apply(&mut self, batch: &[Delivery<String>]) -> Result<Vec<Outcome>, Unavailable> {
            eprintln!("took {}", batch.len());
            std::future::pending().await
        }
    }
    let (session_timeout, heartbeat_interval) = (Duration::from_secs(2), Duration::from_millis(200));
    let kafka = KafkaConfig { session_timeout, heartbeat_interval, ..KafkaConfig::new(brokers) };
    let mut config = ConsumerConfig::new(kafka.clone(), GROUP, "test", "killed");
    config.group_suffix = std::env::var("HEADWATER_TEST_SUFFIX").unwrap();
    let producer = Producer::open(&kafka, Patience::Waiting).unwrap();
    let component = Readiness::default().component("killed");
    run_batches(config, Hangs, producer, component, CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_killed_member_move_and_what_it_had_in_hand_is_done_by_others() {
    let stage = Stage::new();
    let handler = Recorder { member: "alive", ..Recorder::default() };
    let mut written = BTreeMap::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "consumer::tests::members::member_of_another_process", "--nocapture"])
        .env(BROKERS, stage.broker.brokers())
        .env("HEADWATER_TEST_SUFFIX", &stage.group_suffix)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let took = Arc::new(AtomicBool::new(false));
    let reading = std::thread::spawn({
        let took = took.clone();
        move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("took") {
                    took.store(true, Ordering::SeqCst);
                }
            }
        }
    });
    write_numbered(&stage, &mut written, 5).await;
    let alive = stage.batches(stage.config("alive"), handler.clone());
    eventually("the other process has records in hand", || took.load(Ordering::SeqCst), |took| *took).await;
    stage.ready().await;
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap();
    write_numbered(&stage, &mut written, 5).await;
    let total: usize = written.values().sum();
    let distinct = || handler.log.items().into_iter().collect::<std::collections::BTreeSet<_>>().len();
    eventually("everything is done by the one that lives", distinct, |distinct| *distinct == total).await;
    assert_complete_and_in_order(&handler.log.all(), &written);
    alive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_cannot_drain_counts_what_may_come_twice_and_drops_the_late_verdicts() {
    let stage = Stage::new();
    let (open, gate) = watch::channel(false);
    let judge = |gate| Arc::new(Judge { log: Log::default(), verdict: Box::new(|_| Verdict::Done), gate });
    let (slow, quick) = (judge(Some(gate)), judge(None));
    let mut config = stage.config("slow");
    config.drain = Duration::from_millis(300);
    let mut written = BTreeMap::new();
    write_numbered(&stage, &mut written, 3).await;
    let first = stage.events(config, &slow);
    eventually("one of each key in hand", || slow.log.len(), |len| *len == 24).await;
    let second = stage.events(stage.config("quick"), &quick);
    let possible = || stage.counted(names::CONSUMER_POSSIBLE_DUPLICATES, &[]).values().sum::<u64>();
    eventually("a drain is given up", possible, |possible| *possible > 0).await;
    eventually("the other has begun", || quick.log.len(), |len| *len > 0).await;

    open.send(true).unwrap();
    let total: usize = written.values().sum();
    let done = || stage.ended("done").values().sum::<u64>();
    eventually("every record is done", done, |done| *done == total as u64).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(done(), total as u64, "a late verdict was counted");
    let twice = slow.log.len() + quick.log.len() - total;
    assert!(twice > 0 && twice as u64 <= possible(), "{twice} came twice, {} were announced", possible());
    assert_complete_and_in_order(
        &quick.log.all().into_iter().chain(slow.log.all()).collect::<Vec<_>>(),
        &BTreeMap::new(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_went_away_paused_flow_again_when_they_come_back() {
    let stage = Stage::new();
    let healed = Arc::new(AtomicBool::new(false));
    let stays = Judge::new({
        let healed = healed.clone();
        move |delivery| match delivery.item.as_str() {
            "stuck" if !healed.load(Ordering::SeqCst) => Verdict::Wait("not yet", Duration::from_secs(1)),
            _ => Verdict::Done,
        }
    });
    let visits = Judge::new(|_| Verdict::Done);
    for partition in 0..12 {
        stage.write(&["stuck", "b", "c", "d"].map(|value| (partition, value, value))).await;
    }
    let mut config = stage.config("stays");
    config.behind_records = 3;
    let first = stage.events(config, &stays);
    let passed = || stays.log.items().iter().filter(|item| *item != "stuck").count();
    eventually("every partition too far behind", passed, |passed| *passed == 36).await;
    let second = stage.events(stage.config("visits"), &visits);
    eventually("half of them moved", || visits.log.len(), |len| *len == 24).await;
    second.stop().await;

    healed.store(true, Ordering::SeqCst);
    stage.write(&std::array::from_fn::<_, 12, _>(|partition| (partition as i32, "e", "after"))).await;
    let after = || {
        let seen = stays.log.all().into_iter().filter(|seen| seen.item == "after");
        seen.map(|seen| seen.position.partition).collect::<std::collections::BTreeSet<_>>()
    };
    eventually("all of them flow", after, |after| after.len() == 12).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_one_no_longer_is_asked_again_where_the_group_stands() {
    let stage = Stage::new();
    stage.write(&[(1, "ann", "1"), (2, "ben", "2")]).await;
    stage.broker.refuse_offset_fetches(2); // on being assigned, and by whoever asks next
    let member = stage.batches(stage.config("1"), Recorder::default());
    let done = || stage.ended("done").into_values().sum::<u64>();
    eventually("both are read", done, |done| *done == 2).await;
    stage.ready().await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_nobody_tells_where_the_group_stands_share_its_partitions_and_go_on_there_once_told() {
    let stage = Stage::new();
    let handler = Recorder::default();
    let write = async |value: &str| stage.write(&std::array::from_fn::<_, 12, _>(|p| (p as i32, "ann", value))).await;
    let done = || stage.ended("done").into_values().sum::<u64>();
    let owned = |instance| stage.counted(names::CONSUMER_PARTITIONS, &[("instance", instance)]).into_values().sum();
    let before = stage.batches(stage.config("0"), handler.clone());
    write("before").await;
    eventually("the first is done", done, |done| *done == 12).await;
    before.stop().await;

    write("after").await;
    stage.broker.refuse_offset_fetches(10_000);
    let first = stage.batches(stage.config("1"), handler.clone());
    eventually("one has all", || owned("1"), |owned: &u64| *owned == 12).await;
    let second = stage.batches(stage.config("2"), handler.clone());
    eventually("each has half", || (owned("1"), owned("2")), |owned| *owned == (6, 6)).await;
    first.stop().await;
    eventually("the other has all", || owned("2"), |owned: &u64| *owned == 12).await;
    let waiting = stage.readiness.waiting();
    assert!(!waiting.is_empty(), "ready, and cannot read");
    assert_eq!(done(), 12, "something was read, and nobody knew from where");

    stage.broker.refuse_offset_fetches(0);
    eventually("the rest is done", done, |done| *done == 24).await;
    assert!(handler.log.items()[12..].iter().all(|item| item == "after"), "{:?}", handler.log.items());
    second.stop().await;
    assert_eq!(handler.log.len(), 24, "something came twice");
}
