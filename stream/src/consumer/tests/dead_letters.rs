use super::*;
use crate::testing::{OwnedRecord, RawWriter, read_topic};

async fn letters(stage: &Stage, expected: usize) -> Vec<OwnedRecord> {
    let start = Instant::now();
    loop {
        let letters = read_topic(&stage.kafka, ANALYTICS_DLQ.name).await.unwrap();
        if letters.len() >= expected {
            return letters;
        }
        assert!(start.elapsed() < DEADLINE, "{expected} dead letters expected, seen {letters:?}");
    }
}

fn text<'a>(letter: &'a OwnedRecord, name: &str) -> Vec<&'a str> {
    let values = letter.headers.iter().filter(|(header, _)| header == name);
    values.map(|(_, value)| std::str::from_utf8(value.as_deref().unwrap_or_default()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_becomes_a_dead_letter_with_all_its_headers_and_the_rest_flows() {
    let stage = Stage::new();
    let writer = RawWriter::open(&stage.kafka);
    let headers: [(&str, &[u8]); 3] =
        [("content-type", b"application/json"), ("x-redrive-count", b"2"), ("__dlq.errors.group", b"a liar")];
    writer.write(USER_EVENTS.name, Some(2), Some(b"ann"), Some(b"!\xff\x00bytes"), &headers).await;
    writer.write(USER_EVENTS.name, Some(2), None, Some(b"!keyless"), &[]).await;
    stage.write(&[(2, "ann", "fine")]).await;
    let (positions, handler) = (Positions::new(), Recorder::default());
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config, handler.clone());
    eventually("the frontier passes both", || positions.next(2), |next| *next == 3).await;
    assert_eq!(handler.log.items(), ["fine"]);

    let letters = letters(&stage, 2).await;
    let [keyed] = &letters.iter().filter(|letter| letter.key.is_some()).collect::<Vec<_>>()[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(keyed.key.as_deref(), Some(&b"ann"[..]));
    assert_eq!(keyed.value.as_deref(), Some(&b"!\xff\x00bytes"[..]));
    let group = format!("{}{}", GROUP.id, stage.group_suffix);
    for (name, expected) in [
        ("content-type", "application/json"),
        ("__dlq.errors.topic", "user.events"),
        ("__dlq.errors.partition", "2"),
        ("__dlq.errors.offset", "0"),
        ("__dlq.errors.group", group.as_str()),
        ("__dlq.errors.delivery.count", "0"),
        ("__dlq.errors.message", "the value begins with !"),
        ("x-error-type", "garbage"),
        ("x-disposition", "POISON"),
        ("x-redrive-count", "2"),
    ] {
        assert_eq!(text(keyed, name), [expected], "{name}");
    }
    assert_eq!(text(keyed, "x-first-failed-at")[0].len(), "2026-01-15T10:30:00.000Z".len());
    let [keyless] = &letters.iter().filter(|letter| letter.key.is_none()).collect::<Vec<_>>()[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(keyless.value.as_deref(), Some(&b"!keyless"[..]));
    member.stop().await;
    assert_eq!(stage.ended("dead"), BTreeMap::from([("garbage".to_owned(), 2)]));
    assert_eq!(stage.ended("done"), BTreeMap::from([(String::new(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_dead_letters_skips_what_it_cannot_use_and_counts_it() {
    let stage = Stage::new();
    stage.write(&[(2, "ann", "!garbage"), (2, "ann", "fine"), (2, "bob", "!garbage")]).await;
    let (positions, handler) = (Positions::new(), Recorder::default());
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    config.group.dead_letters = None;
    let member = stage.batches(config, handler.clone());
    eventually("the frontier passes all", || positions.next(2), |next| *next == 3).await;
    assert_eq!(handler.log.items(), ["fine"]);
    member.stop().await;
    assert_eq!(stage.ended("skipped"), BTreeMap::from([("garbage".to_owned(), 2)]));
    assert_eq!(stage.ended("done"), BTreeMap::from([(String::new(), 1)]));
    assert!(read_topic(&stage.kafka, ANALYTICS_DLQ.name).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_and_rejected_records_become_dead_letters() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "fails"), (0, "ann", "after"), (0, "bob", "refused")]).await;
    let handler = Judge::new(|delivery| match delivery.item.as_str() {
        "fails" => Verdict::Retry("flaky"),
        "refused" => Verdict::Dead("unwanted"),
        _ => Verdict::Done,
    });
    let mut config = stage.config("1");
    config.retry.first = Duration::from_millis(20);
    let member = stage.events(config, &handler);
    let letters = letters(&stage, 2).await;
    let of = |value: &str| letters.iter().find(|letter| letter.value.as_deref() == Some(value.as_bytes())).unwrap();
    let told = |value| {
        let letter = of(value);
        ["x-disposition", "x-error-type", "__dlq.errors.delivery.count"].map(|name| text(letter, name)[0])
    };
    assert_eq!(told("fails"), ["EXHAUSTED", "flaky", "4"]);
    assert_eq!(told("refused"), ["REJECTED", "unwanted", "1"]);
    let done = || stage.ended("done").values().sum::<u64>();
    eventually("the next of the key", done, |done| *done == 1).await;
    let dead = BTreeMap::from([("flaky".to_owned(), 1), ("unwanted".to_owned(), 1)]);
    eventually("the dead counted", || stage.ended("dead"), |now| *now == dead).await;
    let order: Vec<_> = handler.log.items().into_iter().filter(|item| item != "refused").collect();
    assert_eq!(order, ["fails", "fails", "fails", "fails", "after"]);
    member.stop().await;
    assert_eq!(stage.counted(names::CONSUMER_RETRIES, &[]), BTreeMap::from([("flaky".to_owned(), 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_takes_nothing_holds_the_frontier_and_nothing_else() {
    let stage = Stage::new();
    stage.write(&[(0, "ann", "!poison"), (0, "ann", "behind"), (1, "bob", "other")]).await;
    for _ in 0..5 {
        stage.broker.refuse_next_produce();
    }
    let (positions, handler) = (Positions::new(), Recorder::default());
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config, handler.clone());
    let down = vec![("1".to_owned(), format!("{} is unavailable", ANALYTICS_DLQ.name))];
    eventually("not ready because of the topic", || stage.readiness.waiting(), |now| *now == down).await;
    eventually("the others are applied", || handler.log.len(), |len| *len == 2).await;
    eventually("the other partition's frontier", || positions.next(1), |next| *next == 1).await;
    assert_eq!(positions.next(0), 0, "the offset moved before the letter was reported");
    eventually("the frontier after the letter", || positions.next(0), |next| *next == 2).await;
    stage.ready().await;
    assert_eq!(letters(&stage, 1).await.len(), 1);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_any_of_ours_still_fits_into_a_letter() {
    let stage = Stage::new();
    let value = vec![b'!'; 3 * 1024 * 1024]; // the log measures what is compressed
    RawWriter::open(&stage.kafka).write(USER_EVENTS.name, Some(0), Some(b"ann"), Some(&value), &[]).await;
    let positions = Positions::new();
    let mut config = stage.config("1");
    config.positions = Some(positions.clone());
    let member = stage.batches(config, Recorder::default());
    eventually("the frontier passes it", || positions.next(0), |next| *next == 1).await;
    assert_eq!(letters(&stage, 1).await[0].value.as_deref(), Some(&value[..]));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_tells_null_from_empty_as_its_record_does() {
    let stage = Stage::new();
    let writer = RawWriter::open(&stage.kafka);
    let headers: [(&str, Option<&[u8]>); 2] = [("null", None), ("empty", Some(b""))];
    writer.write_with_nulls(USER_EVENTS.name, Some(0), Some(b"ann"), None, &headers).await;
    let member = stage.batches(stage.config("1"), Recorder::default());
    let letter = &letters(&stage, 1).await[0];
    assert_eq!(letter.value, None);
    let brought: Vec<_> =
        letter.headers.iter().take(2).map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    assert_eq!(brought, headers);
    member.stop().await;
}
