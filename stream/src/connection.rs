//! One librdkafka producer client and the batches that it still owes reports for.
use std::{
    ffi::c_int,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use headwater_otel::names;
use headwater_proto::topics;
use metrics::{Counter, Gauge, counter, gauge};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Statistics,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
    types::RDKafkaErrorCode,
};
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

use crate::{
    Backlog, Error, KafkaConfig, OutboundRecord, Patience, Position, SendError,
    batches::Batches,
    bootstrap::Bootstrap,
    kafka::GAPLESS,
    outage::{Outage, is_connected},
    reach::is_reachable,
    reporting::Reporting,
    watchdog::{Remedy, Snapshot, Watchdog},
};

/// What became of a record that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Enqueued,
    /// Its outcome says why; nothing was enqueued.
    Refused,
    /// Nothing happened: the same record may be handed over again.
    QueueFull,
}

/// What outlives one client: how the clients before it fared.
#[derive(Debug)]
pub(crate) struct Vigil {
    watchdog: Mutex<Watchdog>,
    /// Reports of brokers to all clients so far.
    reported: AtomicU64,
    /// New clients did not help; told once.
    stalled: Mutex<Option<Error>>,
    brokers: String,
    rebuilds: u32,
}

impl Vigil {
    pub(crate) fn new(kafka: &KafkaConfig) -> Arc<Self> {
        Arc::new(Self {
            watchdog: Mutex::new(Watchdog::new(kafka.watch, Instant::now())),
            reported: AtomicU64::new(0),
            stalled: Mutex::default(),
            brokers: kafka.brokers.clone(),
            rebuilds: kafka.watch.rebuilds,
        })
    }

    /// Why whoever enqueues next should rather end.
    pub(crate) fn stalled(&self) -> Option<Error> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether this client is to be given up.
    fn gives_up(&self, connected: bool, queued: u64) -> bool {
        let now = Instant::now();
        let reported = self.reported.load(Ordering::Relaxed);
        let snapshot = Snapshot { connected, queued, reported, ..Snapshot::default() };
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stall) = watchdog.observe(now, snapshot) else { return false };
        let reachable = is_reachable(&self.brokers);
        let remedy = watchdog.remedy(now, stall, reachable);
        match remedy {
            Remedy::Wait => return false,
            Remedy::Rebuild => warn!(queued, reachable, "{}: the next record gets a new producer", stall.text()),
            Remedy::GiveUp => {
                error!(queued, "{}: new producers do not help", stall.text());
                let (brokers, rebuilds) = (self.brokers.clone(), self.rebuilds);
                let stalled = Error::Stalled { reason: stall.text(), brokers, rebuilds };
                *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) = Some(stalled);
            }
        }
        counter!(names::CLIENT_REBUILDS, names::CLIENT => "producer", names::REASON => stall.reason()).increment(1);
        true
    }
}

pub(crate) struct Connection {
    /// `None` only while it is being dropped.
    client: Option<Reporting<Deliveries>>,
}

impl Connection {
    pub(crate) fn open(
        config: &ClientConfig,
        patience: Patience,
        budget: Arc<Semaphore>,
        backlog: Option<Arc<Backlog>>,
        vigil: Arc<Vigil>,
    ) -> Result<Arc<Self>, Error> {
        let context = Deliveries {
            batches: Mutex::default(),
            bootstrap: Bootstrap::new("producer", &vigil.brokers),
            outage: Outage::default(),
            budget,
            backlog,
            patience,
            vigil,
            broken: AtomicBool::new(false),
            sent: counter!(names::PRODUCER_SENT),
            queued: gauge!(names::PRODUCER_QUEUED),
        };
        let client = BaseProducer::from_config_and_context(config, context)
            .map_err(|source| Error::Client { client: "producer", source })?;
        let client = Reporting::start(client).map_err(|source| Error::Thread { of: "producer", source })?;
        client.context().bootstrap.serves(client.client());
        Ok(Arc::new(Self { client: Some(client) }))
    }

    fn client(&self) -> &Reporting<Deliveries> {
        self.client.as_ref().expect("only drop takes the client")
    }

    /// Sends at once what lingers, and waits until everything is reported, at most for `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) {
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the client is alive as long as `self`, and librdkafka's functions may be called from any thread.
        // Reports are served by the client's thread meanwhile, as the function asks. (rdkafka's own flush
        // calls it with a timeout of 0, which ends the flushing before a lingering batch is sent.)
        unsafe { rdkafka::bindings::rd_kafka_flush(self.client().client().native_ptr(), millis) };
    }

    fn deliveries(&self) -> &Deliveries {
        self.client().client().context()
    }

    pub(crate) fn batches(&self) -> MutexGuard<'_, Batches> {
        self.deliveries().batches()
    }

    /// It will never send again.
    pub(crate) fn is_broken(&self) -> bool {
        self.deliveries().broken.load(Ordering::Acquire)
    }

    /// Hands one record over; `bytes` of the budget are its own from here on.
    pub(crate) fn send(&self, slot: u32, record: &OutboundRecord<'_>, bytes: u32) -> Sent {
        let Some(opaque) = self.batches().add(slot, bytes) else {
            self.deliveries().give_back(bytes);
            return Sent::Refused;
        };
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, &(key, value)| {
                headers.insert(Header { key, value })
            });
        let outbound = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.value,
            key: (!record.key.is_empty()).then_some(record.key),
            timestamp: record.timestamp,
            headers: Some(headers),
            delivery_opaque: opaque,
        };
        let Err((error, _)) = self.client().send(outbound) else { return Sent::Enqueued };
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            return if self.batches().retract(opaque) { Sent::QueueFull } else { Sent::Refused };
        }
        self.deliveries().report(opaque, Err(self.deliveries().failed(&error)), None);
        Sent::Refused
    }

    /// Adds a record that is not sent and gives its `bytes` back.
    pub(crate) fn refuse(&self, slot: u32, error: SendError, bytes: u32) -> Sent {
        self.batches().refuse(slot, error);
        self.deliveries().give_back(bytes);
        Sent::Refused
    }

    /// Everything unreported is purged from here on; their number.
    pub(crate) fn stop(&self) -> usize {
        self.deliveries().stop()
    }

    pub(crate) fn unreported(&self) -> usize {
        self.batches().unreported()
    }

    /// Drops the client on this thread, which waits for its thread and its sockets; left to whoever else
    /// still holds it.
    pub(crate) fn end(self: Arc<Self>) {
        if let Some(mut last) = Arc::into_inner(self) {
            drop(last.client.take());
        }
    }
}

impl Drop for Connection {
    /// The last holder may be a runtime's worker, which must not wait.
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let dropping = thread::Builder::new().name("producer drop".to_owned()).spawn(move || drop(client));
        if let Err(error) = dropping {
            warn!(%error, "no thread to drop a producer on; it was dropped in place");
        }
    }
}

/// What librdkafka tells about the client, on the client's thread.
pub(crate) struct Deliveries {
    batches: Mutex<Batches>,
    bootstrap: Bootstrap,
    outage: Outage,
    budget: Arc<Semaphore>,
    backlog: Option<Arc<Backlog>>,
    patience: Patience,
    vigil: Arc<Vigil>,
    broken: AtomicBool,
    sent: Counter,
    queued: Gauge,
}

impl Deliveries {
    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, bytes: u32) {
        self.budget.add_permits(bytes as usize);
    }

    fn stop(&self) -> usize {
        let mut batches = self.batches();
        let unreported = batches.unreported();
        let freed = batches.stop();
        drop(batches);
        self.budget.add_permits(freed);
        unreported
    }

    /// The report comes last: whoever waits for it finds the budget and the backlog as they are then.
    fn report(&self, record: usize, outcome: Result<Position, SendError>, backlog: Option<&Backlog>) {
        let mut batches = self.batches();
        let bytes = batches.bytes(record);
        if let (Some(backlog), Ok(position)) = (backlog, outcome) {
            backlog.produced(position, u64::from(bytes));
        }
        self.give_back(bytes);
        batches.report(record, outcome);
    }

    /// Counts the failure and notes where it is the client's last: with [`Patience::Forever`] each is. (Of a record
    /// that the broker refuses, a gapless librdkafka says so itself, but only after the report.)
    fn failed(&self, error: &KafkaError) -> SendError {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let fatal = matches!(code, RDKafkaErrorCode::Fatal | RDKafkaErrorCode::GaplessGuarantee);
        if fatal || self.patience == Patience::Forever {
            self.broken.store(true, Ordering::Release);
        }
        let error = SendError::from(code);
        counter!(names::PRODUCER_FAILED, names::REASON => error.reason()).increment(1);
        error
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, record: usize) {
        match result {
            Ok(message) => {
                self.vigil.reported.fetch_add(1, Ordering::Relaxed);
                let position = Position { partition: message.partition(), offset: message.offset() };
                let backlog = self.backlog.as_deref().filter(|_| message.topic() == topics::USER_EVENTS.name);
                self.report(record, Ok(position), backlog);
                self.sent.increment(1);
            }
            Err((error, _)) => {
                let error = self.failed(error);
                if matches!(error, SendError::Refused(_)) {
                    self.vigil.reported.fetch_add(1, Ordering::Relaxed); // the others nobody but the client reports
                }
                self.report(record, Err(error), None);
            }
        }
    }
}

impl ClientContext for Deliveries {
    fn stats(&self, statistics: Statistics) {
        self.bootstrap.look(&statistics);
        if self.outage.is_over(&statistics) {
            info!("a producer can reach a kafka broker again");
        }
        self.queued.set(statistics.msg_cnt as f64);
        let unreported = self.batches().unreported() as u64;
        // one that is given up already is only here until the next record
        if self.broken.load(Ordering::Acquire) || !self.vigil.gives_up(is_connected(&statistics), unreported) {
            return;
        }
        self.broken.store(true, Ordering::Release);
        self.stop();
    }

    /// As everywhere, but for one warning: that the guarantee may change with another librdkafka is known, and the
    /// version of it is pinned here.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
        match level {
            Warning if facility == "CONFWARN" && message.contains(GAPLESS) => debug!(target: "librdkafka", message),
            Emerg | Alert | Critical | Error => error!(target: "librdkafka", facility, message),
            Warning => warn!(target: "librdkafka", facility, message),
            Notice | Info => info!(target: "librdkafka", facility, message),
            Debug => debug!(target: "librdkafka", facility, message),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.broken.store(true, Ordering::Release);
            error!(%error, reason, "a producer failed for good; what is sent next gets a new one");
        } else if self.outage.is_news(&error) {
            warn!(%error, reason, "a producer has trouble with its broker; it keeps trying");
        }
    }
}
