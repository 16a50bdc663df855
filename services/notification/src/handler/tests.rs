use super::*;
use crate::{
    decide::Key,
    ledger::{LEASE, MemoryLedger},
    testing::{TokioClock, notification},
};
use headwater_otel::Readiness;
use headwater_proto::{EventType, SCHEMA_VERSION, Timestamp, UserId, v1::EventEnvelope, v1::Payload};
use headwater_stream::{Headers, Position};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Remembers what it delivered; its failures are set before.
#[derive(Clone, Default)]
struct Recorder {
    delivered: Arc<Mutex<Vec<Key>>>,
    failures: Arc<Mutex<Vec<Failure>>>,
    hangs: bool,
}

impl Recorder {
    fn failing(failures: impl IntoIterator<Item = Failure>) -> Self {
        Self { failures: Arc::new(Mutex::new(failures.into_iter().collect())), ..Self::default() }
    }

    fn delivered(&self) -> usize {
        self.delivered.lock().unwrap().len()
    }
}

impl Channel for Recorder {
    const NAME: &'static str = "recorder";

    async fn deliver(&self, notification: &Notification) -> Result<(), Failure> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(failure) = self.failures.lock().unwrap().pop() {
            return Err(failure);
        }
        // gives the others a chance to do the same meanwhile
        tokio::task::yield_now().await;
        self.delivered.lock().unwrap().push(notification.key);
        Ok(())
    }
}

/// Away for the first calls, then the ledger behind it.
#[derive(Clone)]
struct Flaky {
    ledger: MemoryLedger,
    failures_left: Arc<AtomicUsize>,
}

impl Flaky {
    fn up(&self) -> Result<(), Unavailable> {
        match self.failures_left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(Unavailable { dependency: "ledger", source: "connection refused".into() }),
            Err(_) => Ok(()),
        }
    }
}

impl Ledger for Flaky {
    async fn claim(&self, key: Key, now: Millis) -> Result<Claim, Unavailable> {
        self.up()?;
        self.ledger.claim(key, now).await
    }

    async fn mark(&self, key: Key) -> Result<(), Unavailable> {
        self.up()?;
        self.ledger.mark(key).await
    }

    async fn withdraw(&self, lease: &Lease) -> Result<(), Unavailable> {
        self.up()?;
        self.ledger.withdraw(lease).await
    }

    async fn expire(&self, lease: &Lease, now: Millis) -> Result<(), Unavailable> {
        self.up()?;
        self.ledger.expire(lease, now).await
    }
}

fn handler<L: Ledger>(channel: &Recorder, ledger: &L) -> Handler<Recorder, L, TokioClock> {
    handler_seen_by(&Readiness::default(), channel, ledger)
}

fn handler_seen_by<L: Ledger>(
    readiness: &Readiness,
    channel: &Recorder,
    ledger: &L,
) -> Handler<Recorder, L, TokioClock> {
    let ledger_readiness = readiness.component("notification-1-ledger");
    ledger_readiness.ready();
    Handler {
        channel: channel.clone(),
        ledger: ledger.clone(),
        ledger_readiness,
        clock: TokioClock::start(),
        warning_threshold: NonZeroU32::MIN,
        fail_rate: FailRate::new(0.0).unwrap(),
        shutdown: CancellationToken::new(),
        complaints: Complaints::new(),
        outage: Outage::default(),
    }
}

fn attempt(n: u8, attempt: u32) -> Delivery<Notification> {
    let position = Position { partition: 0, offset: i64::from(n) };
    Delivery { position, trace: None, timestamp: None, attempt, item: notification(n) }
}

fn not_delivered() -> Failure {
    Failure::NotDelivered { reason: "http_5xx", source: None }
}

fn unknown() -> Failure {
    Failure::Unknown { reason: "http_timeout", source: None }
}

async fn taken_over(ledger: &MemoryLedger, n: u8, now: Millis) -> bool {
    match ledger.claim(notification(n).key, now).await.unwrap() {
        Claim::Granted(lease) => lease.taken_over,
        other => panic!("expected a grant, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_is_skipped_when_it_comes_again() {
    let (channel, ledger) = (Recorder::default(), MemoryLedger::new());
    let handler = handler(&channel, &ledger);
    assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Done);
    assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Skip("duplicate"));
    assert_eq!(handler.handle(&attempt(2, 1)).await, Verdict::Done);
    assert_eq!(channel.delivered(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_free_for_the_next_at_once() {
    for failure in [not_delivered as fn() -> Failure, unknown] {
        let (channel, ledger) = (Recorder::failing([failure()]), MemoryLedger::new());
        let handler = handler(&channel, &ledger);
        let reason = failure().reason();
        assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Retry(reason));
        assert_eq!(handler.handle(&attempt(1, 2)).await, Verdict::Done, "after {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_may_have_been_delivered_counts_as_a_possible_duplicate() {
    let clock = TokioClock::start();
    for (failures, expected) in [
        (vec![not_delivered()], false),
        (vec![unknown()], true),
        // the doubt of the first attempt outlives the certainty of the second
        (vec![not_delivered(), unknown()], true),
    ] {
        let (attempts, ledger) = (failures.len() as u32, MemoryLedger::new());
        let handler = handler(&Recorder::failing(failures), &ledger);
        for n in 1..=attempts {
            assert!(matches!(handler.handle(&attempt(1, n)).await, Verdict::Retry(_)));
        }
        assert_eq!(taken_over(&ledger, 1, clock.now()).await, expected, "{attempts} attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_away_is_waited_for_and_costs_no_attempt() {
    let away = || Failure::Away { reason: "connect_failed", source: None };
    let (channel, ledger) = (Recorder::failing((0..20).map(|_| away())), MemoryLedger::new());
    let handler = handler(&channel, &ledger);
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let Verdict::Wait("connect_failed", wait) = handler.handle(&attempt(1, 1)).await else { panic!("no wait") };
        longest = longest.max(wait);
        tokio::time::advance(wait).await;
    }
    assert!((Duration::from_secs(15)..=Duration::from_secs(30)).contains(&longest), "{longest:?}");
    assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Done);
    assert!(matches!(ledger.claim(notification(1).key, handler.clock.now()).await, Ok(Claim::Delivered)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_notification_is_dead_at_once() {
    let (channel, ledger) = (Recorder::failing([Failure::Refused { reason: "http_4xx" }]), MemoryLedger::new());
    assert_eq!(handler(&channel, &ledger).handle(&attempt(1, 1)).await, Verdict::Dead("http_4xx"));
}

#[tokio::test(start_paused = true)]
async fn an_injected_failure_is_a_retry_that_never_reached_the_channel() {
    let (channel, ledger) = (Recorder::default(), MemoryLedger::new());
    let handler = Handler { fail_rate: FailRate::new(1.0).unwrap(), ..handler(&channel, &ledger) };
    for n in 1..=4 {
        assert_eq!(handler.handle(&attempt(1, n)).await, Verdict::Retry("injected"), "attempt {n}");
    }
    assert_eq!(channel.delivered(), 0);
    assert!(!taken_over(&ledger, 1, handler.clock.now()).await);
}

#[tokio::test(start_paused = true)]
async fn a_claim_left_by_a_killed_instance_is_taken_over_when_its_lease_ends() {
    let (channel, ledger) = (Recorder::default(), MemoryLedger::new());
    let handler = handler(&channel, &ledger);
    let killed_at = handler.clock.now();
    assert!(!taken_over(&ledger, 1, killed_at).await);
    tokio::time::advance(Duration::from_secs(10)).await;
    let rest = Duration::from_secs(20);
    assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Wait("claimed", rest));
    assert_eq!(channel.delivered(), 0);
    tokio::time::advance(rest).await;
    assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Done);
    assert_eq!(channel.delivered(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_channel_is_given_up_long_before_the_lease_ends() {
    let (channel, ledger) = (Recorder { hangs: true, ..Recorder::default() }, MemoryLedger::new());
    let handler = handler(&channel, &ledger);
    let started = Instant::now();
    assert_eq!(handler.handle(&attempt(1, 1)).await, Verdict::Retry("timeout"));
    assert!(started.elapsed() <= LEASE / 2, "{:?}", started.elapsed());
    assert!(taken_over(&ledger, 1, handler.clock.now()).await, "nobody knows what the channel did");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_away_is_waited_for_and_costs_no_attempt() {
    let channel = Recorder::default();
    let ledger = Flaky { ledger: MemoryLedger::new(), failures_left: Arc::new(AtomicUsize::new(20)) };
    let readiness = Readiness::default();
    let handler = handler_seen_by(&readiness, &channel, &ledger);
    let delivery = attempt(1, 1);
    let mut handled = tokio_test::task::spawn(handler.handle(&delivery));
    assert!(handled.poll().is_pending());
    assert_eq!(readiness.waiting().len(), 1, "it shows that somebody waits");
    assert_eq!(handled.await, Verdict::Done);
    assert!(readiness.waiting().is_empty());
    assert_eq!(channel.delivered(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_waiting_for_the_ledger() {
    let channel = Recorder::default();
    let ledger = Flaky { ledger: MemoryLedger::new(), failures_left: Arc::new(AtomicUsize::new(usize::MAX)) };
    let handler = handler(&channel, &ledger);
    handler.shutdown.cancel();
    assert!(matches!(handler.handle(&attempt(1, 1)).await, Verdict::Wait("ledger_away", _)));
    assert_eq!(channel.delivered(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_that_share_a_ledger_never_deliver_twice() {
    let (channel, ledger) = (Recorder::default(), MemoryLedger::new());
    let instances = [Arc::new(handler(&channel, &ledger)), Arc::new(handler(&channel, &ledger))];
    let tasks = instances.into_iter().flat_map(|instance| {
        (0..=u8::MAX).map(move |n| {
            let instance = instance.clone();
            tokio::spawn(async move { instance.handle(&attempt(n, 1)).await })
        })
    });
    let verdicts = futures::future::try_join_all(tasks.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(verdicts.iter().filter(|&&verdict| verdict == Verdict::Done).count(), 256);
    let mut delivered = channel.delivered.lock().unwrap().clone();
    delivered.sort_by_key(|key| key.event_id);
    delivered.dedup();
    assert_eq!((delivered.len(), channel.delivered()), (256, 256));
}

#[test]
fn a_replayed_record_notifies_nobody_and_garbage_is_poison() {
    let handler = handler_outside_a_runtime();
    let envelope = EventEnvelope {
        event_id: "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69".into(),
        event_type: EventType::UserCreated.as_str().into(),
        aggregate_id: "ada".into(),
        occurred_at: Some(Timestamp { seconds: 1_768_473_000, nanos: 0 }),
        payload: Some(Payload { email: "ada@example.org".into(), ..Payload::default() }),
        schema_version: SCHEMA_VERSION,
        ..EventEnvelope::default()
    };
    let value = prost::Message::encode_to_vec(&envelope);
    let decode = |value: &[u8], headers: &[(&str, &[u8])]| {
        let position = Position { partition: 0, offset: 0 };
        let (key, headers) = (Some(b"ada".as_slice()), Headers::Slice(headers));
        handler.decode(&Record { topic: "user.events", position, timestamp: None, key, value: Some(value), headers })
    };
    match decode(&value, &[]).unwrap() {
        Decoded::Item(notification) => assert_eq!(notification.user_id, UserId::try_from("ada").unwrap()),
        Decoded::Skip(reason) => panic!("{reason}"),
    }
    assert_eq!(decode(&value, &[("x-replay-id", b"r1")]), Ok(Decoded::Skip("replay")));
    assert_eq!(decode(b"\xff\xff", &[]).map_err(|poison| poison.reason), Err("undecodable"));
}

fn handler_outside_a_runtime() -> Handler<Recorder, MemoryLedger, TokioClock> {
    handler(&Recorder::default(), &MemoryLedger::new())
}
