use tokio::sync::Barrier;

use super::*;
use crate::RetryPolicy;

fn quick(stage: &Stage) -> ConsumerConfig {
    let mut config = stage.config("1");
    config.retry = RetryPolicy { first: Duration::from_millis(50), ..RetryPolicy::default() };
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_key_waits_alone_and_keeps_its_order() {
    let stage = Stage::new();
    let healed = Arc::new(AtomicBool::new(false));
    let handler = Judge::new({
        let healed = healed.clone();
        move |delivery| match delivery.item.as_str() {
            "a1" if !healed.load(Ordering::SeqCst) => Verdict::Wait("not yet", Duration::from_millis(20)),
            "a1" if delivery.attempt < 3 => Verdict::Retry("flaky"),
            _ => Verdict::Done,
        }
    });
    // the other key shares the partition: it must flow past, the frontier must not
    stage.write(&[(0, "ann", "a1"), (0, "ann", "a2"), (0, "bob", "b1"), (0, "bob", "b2"), (4, "eve", "e1")]).await;
    let positions = Positions::new();
    let mut config = quick(&stage);
    config.positions = Some(positions.clone());
    let member = stage.events(config, &handler);
    let of =
        |key: &str| -> Vec<Seen> { handler.log.all().into_iter().filter(|seen| seen.item.starts_with(key)).collect() };
    eventually(
        "the others flow",
        || (of("b").len(), of("e").len(), of("a").len()),
        |n| n.0 == 2 && n.1 == 1 && n.2 > 2,
    )
    .await;
    assert!(of("a").iter().all(|seen| seen.item == "a1" && seen.attempt == 1), "waiting is no attempt: {:?}", of("a"));
    assert_eq!(positions.next(0), 0, "the frontier passed a record that is not finished");
    healed.store(true, Ordering::SeqCst);
    eventually("the frontier moves", || positions.next(0), |next| *next == 4).await;
    let after: Vec<_> = of("a").into_iter().map(|seen| (seen.item, seen.attempt)).skip_while(|s| s.1 < 2).collect();
    assert_eq!(after, [("a1".to_owned(), 2), ("a1".to_owned(), 3), ("a2".to_owned(), 1)]);
    member.stop().await;
    assert_eq!(stage.ended("done"), BTreeMap::from([(String::new(), 5)]));
    assert_eq!(stage.counted(names::CONSUMER_RETRIES, &[]), BTreeMap::from([("flaky".to_owned(), 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_key_are_handled_one_at_a_time_and_in_order_while_keys_run_together() {
    let stage = Stage::new();
    struct Together {
        log: Log,
        busy: Mutex<std::collections::BTreeSet<String>>,
        /// Nobody goes on before a record of each key is in hand.
        all: Barrier,
    }
    impl EventHandler for Together {
        type Item = String;
        fn decode(&self, record: &Record<'_>) -> Result<Decoded<String>, Poison> {
            decode(record)
        }
        async fn handle(&self, delivery: &Delivery<String>) -> Verdict {
            let key = delivery.item[..1].to_owned();
            assert!(self.busy.lock().unwrap().insert(key.clone()), "two records of {key} at a time");
            self.all.wait().await;
            self.busy.lock().unwrap().remove(&key);
            self.log.add("together", delivery);
            Verdict::Done
        }
    }
    let handler = Arc::new(Together { log: Log::default(), busy: Mutex::default(), all: Barrier::new(3) });
    let values: Vec<(String, String)> =
        (0..30).flat_map(|n| ["a", "b", "c"].map(|key| (key.to_owned(), format!("{key}{n:02}")))).collect();
    let records: Vec<_> = values.iter().map(|(key, value)| (0, key.as_str(), value.as_str())).collect();
    stage.write(&records).await;
    let (stop, component) = (CancellationToken::new(), stage.readiness.component("1"));
    let run = run_events(stage.config("1"), handler.clone(), stage.producer.clone(), component, stop.clone());
    let run = tokio::spawn(run);
    eventually("all handled, three at a time", || handler.log.len(), |len| *len == 90).await;
    for key in ["a", "b", "c"] {
        let items: Vec<_> = handler.log.items().into_iter().filter(|item| item.starts_with(key)).collect();
        assert!(items.is_sorted() && items.len() == 30, "{items:?}");
    }
    Member { stop, run }.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontier_too_far_behind_pauses_its_partition_and_no_other() {
    let stage = Stage::new();
    let healed = Arc::new(AtomicBool::new(false));
    let handler = Judge::new({
        let healed = healed.clone();
        move |delivery| match delivery.item.as_str() {
            "stuck" if !healed.load(Ordering::SeqCst) => Verdict::Wait("not yet", Duration::from_millis(20)),
            _ => Verdict::Done,
        }
    });
    let positions = Positions::new();
    let mut config = quick(&stage);
    config.positions = Some(positions.clone());
    config.behind_records = 20;
    let member = stage.events(config, &handler);
    stage.ready().await;
    stage.write(&[(0, "ann", "stuck")]).await;
    let values: Vec<(String, String)> = (0..3_000).map(|n| (format!("k{n}"), format!("v{n}"))).collect();
    // in small pieces, so that the pause meets a partition that still has records to come
    for piece in values.chunks(10) {
        stage.write(&piece.iter().map(|(key, value)| (0, key.as_str(), value.as_str())).collect::<Vec<_>>()).await;
    }
    stage.write(&[(1, "bob", "other")]).await;
    eventually("the other partition flows", || positions.next(1), |next| *next == 1).await;
    let passed = handler.log.items().iter().filter(|item| item.starts_with('v')).count();
    assert!(passed < 3_000, "all {passed} records passed the stuck one");
    assert_eq!(positions.next(0), 0);
    healed.store(true, Ordering::SeqCst);
    eventually("everything after the pause", || positions.next(0), |next| *next == 3_001).await;
    let items: Vec<_> = handler.log.items().into_iter().filter(|item| item.starts_with('v')).collect();
    assert_eq!(items.len(), 3_000, "a pause lost or repeated records");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_an_event_handler_ends_the_run() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "a0")]).await;
    let handler = Judge::new(|_| panic!("as the test wants it"));
    let error = stage.events(stage.config("1"), &handler).end().await.unwrap_err();
    assert!(matches!(error, Error::Panicked { what: "event handler" }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_queues_behind_a_busy_user_takes_no_room_from_the_others() {
    let stage = Stage::new();
    let (open, gate) = watch::channel(false);
    let handler = Arc::new(Judge { log: Log::default(), verdict: Box::new(|_| Verdict::Done), gate: Some(gate) });
    let mut config = quick(&stage);
    config.waiting_records = 10;
    let member = stage.events(config, &handler);
    stage.write(&[(0, "ann", "a"); 50]).await;
    eventually("one of hers in hand", || handler.log.len(), |len| *len == 1).await;
    stage.write(&[(1, "bob", "b")]).await;
    eventually("his too", || handler.log.items(), |items| items == &["a", "b"]).await;
    open.send(true).unwrap();
    eventually("all", || handler.log.len(), |len| *len == 51).await;
    member.stop().await;
}
