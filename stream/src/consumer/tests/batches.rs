use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_committed_and_does_not_come_again_after_a_restart() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "a1"), (0, "ann", "?later"), (5, "bob", "b1")]).await;
    let handler = Recorder::default();
    let first = stage.batches(stage.config("1"), handler.clone());
    eventually("both applied", || handler.log.items(), |items| items.len() == 2).await;
    first.stop().await;
    stage.write(&[(0, "ann", "a2")]).await;
    let second = stage.batches(stage.config("1"), handler.clone());
    eventually("the new one applied", || handler.log.items(), |items| items.last().is_some_and(|i| i == "a2")).await;
    second.stop().await;
    let mut items = handler.log.items();
    items.sort();
    assert_eq!(items, ["a1", "a2", "b1"]);
    assert_eq!(stage.ended("done"), BTreeMap::from([(String::new(), 3)]));
    assert_eq!(stage.ended("skipped"), BTreeMap::from([("question".to_owned(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_until_its_store_is_up_and_says_for_whom() {
    let stage = Stage::new();
    let positions = Positions::new();
    let handler = Recorder::default();
    handler.down.store(true, Ordering::SeqCst);
    stage.write(&[(3, "ann", "a1"), (3, "ann", "a2")]).await;
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config, handler.clone());
    let waiting = vec![("1".to_owned(), "store is unavailable".to_owned())];
    eventually("not ready because of the store", || stage.readiness.waiting(), |now| *now == waiting).await;
    let retried = || stage.counted(names::CONSUMER_RETRIES, &[]).get("store").copied().unwrap_or_default();
    eventually("several attempts", retried, |retried| *retried >= 6).await;
    assert_eq!((handler.log.len(), positions.next(3)), (0, 0));

    handler.down.store(false, Ordering::SeqCst);
    eventually("the frontier moves", || positions.next(3), |next| *next == 2).await;
    assert!(handler.log.all().iter().all(|seen| seen.attempt > 1), "{:?}", handler.log);
    assert_eq!(handler.log.items(), ["a1", "a2"]);
    stage.ready().await;
    member.stop().await;
    assert_eq!(stage.ended("dead"), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_does_not_keep_a_stop_waiting() {
    let stage = Stage::new();
    let handler = Recorder::default();
    handler.down.store(true, Ordering::SeqCst);
    stage.write(&[(3, "ann", "a1")]).await;
    let member = stage.batches(stage.config("1"), handler.clone());
    let waiting = || stage.readiness.waiting();
    eventually("the store is missed", waiting, |w| w.iter().any(|(_, why)| why.contains("store"))).await;
    let asked = Instant::now();
    member.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    handler.down.store(false, Ordering::SeqCst);
    let again = stage.batches(stage.config("1"), handler.clone());
    eventually("the record comes again", || handler.log.items(), |items| items == &["a1"]).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_slower_than_the_poll_interval_keeps_its_partitions() {
    let mut stage = Stage::new();
    stage.kafka.max_poll_interval = Duration::from_secs(2);
    let turns = Arc::new(Semaphore::new(0));
    let handler = Recorder { turns: Some(turns.clone()), ..Recorder::default() };
    let mut config = stage.config("1");
    (config.batch_records, config.quiet) = (10, Duration::from_millis(500));
    let values: Vec<String> = (0..60).map(|n| format!("{n:02}")).collect();
    let records: Vec<_> = values.iter().map(|value| (0, "ann", value.as_str())).collect();
    stage.write(&records).await;
    let member = stage.batches(config, handler.clone());
    stage.ready().await;
    for batch in 1..=3 {
        let began = Instant::now();
        let mut ticks = interval(Duration::from_millis(100));
        while began.elapsed() < stage.kafka.max_poll_interval * 7 / 4 {
            ticks.tick().await;
            assert_eq!(*handler.revoked.lock().unwrap(), [0; 0], "it was put out of the group");
        }
        turns.add_permits(1);
        eventually("a slow batch", || handler.log.len(), |len| *len == batch * 10).await;
    }
    assert_eq!(handler.log.items(), values[..handler.log.len()], "records were lost, reordered or repeated");
    turns.add_permits(values.len());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_memory_starts_where_it_stands_whatever_the_group_committed() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "a0"), (0, "ann", "a1"), (0, "ann", "a2"), (1, "bob", "b0")]).await;
    let full = Recorder::default();
    let member = stage.batches(stage.config("1"), full.clone());
    eventually("all committed", || full.log.len(), |len| *len == 4).await;
    member.stop().await;

    let positions = Positions::new();
    positions.advance(0, 1);
    let handler = Recorder::default();
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config, handler.clone());
    eventually("both frontiers", || (positions.next(0), positions.next(1)), |next| *next == (3, 1)).await;
    let mut items = handler.log.items();
    items.sort();
    assert_eq!(items, ["a1", "a2", "b0"]);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_handler_ends_the_run_and_what_it_had_comes_again() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "a0")]).await;
    let mut handler = Recorder { panics_at: Some("a1"), ..Recorder::default() };
    let member = stage.batches(stage.config("1"), handler.clone());
    eventually("the first applied", || handler.log.len(), |len| *len == 1).await;
    stage.write(&[(0, "ann", "a1")]).await;
    let error = member.end().await.unwrap_err();
    assert!(matches!(error, Error::Panicked { what: "batch handler" }), "{error:?}");

    handler.panics_at = None;
    let member = stage.batches(stage.config("1"), handler.clone());
    eventually("replayed", || handler.log.items(), |items| items == &["a0", "a1"]).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_leaves_the_group() {
    let stage = Stage::new();
    let handler = Recorder::default();
    let first = stage.batches(stage.config("1"), handler.clone());
    stage.ready().await;
    first.run.abort();
    let second = stage.batches(stage.config("2"), handler.clone());
    stage.write(&[(0, "ann", "a0"), (7, "bob", "b0")]).await;
    eventually("the other has everything", || handler.log.len(), |len| *len == 2).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_decoding_ends_the_run_with_what_was_done_committed() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "a0")]).await;
    let (positions, handler) = (Positions::new(), Recorder::default());
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config, handler.clone());
    eventually("the first is done", || positions.next(0), |next| *next == 1).await;
    stage.write(&[(0, "ann", "*")]).await;
    let error = member.end().await.unwrap_err();
    assert!(matches!(error, Error::Panicked { what: "consumer thread" }), "{error:?}");
    assert_eq!(positions.next(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_broker_is_survived_with_the_partitions_lost_and_taken_again() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "a0")]).await;
    let handler = Recorder::default();
    let member = stage.batches(stage.config("1"), handler.clone());
    eventually("the first applied", || handler.log.len(), |len| *len == 1).await;
    stage.broker.go_down();
    eventually("the session is over", || handler.revoked.lock().unwrap().len(), |revoked| *revoked == 12).await;
    stage.broker.come_back();
    stage.write(&[(0, "ann", "a1"), (9, "bob", "b0")]).await;
    let items = || handler.log.items();
    eventually("it goes on", items, |i| i.contains(&"a1".to_owned()) && i.contains(&"b0".to_owned())).await;
    let errors = stage.counted(names::CONSUMER_ERRORS, &[]);
    assert!(errors.values().sum::<u64>() > 0, "the outage was not counted");
    member.stop().await;
}
