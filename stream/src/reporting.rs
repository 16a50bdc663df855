//! A producer client and the thread that serves its reports.
//!
//! Not rdkafka's `ThreadedProducer`: that one polls with deadlines, cut to whole milliseconds, and spins through the rest
//! of each one; ten times a second, a hundredth of a core for a client that has nothing to do (rdkafka 0.39).
use std::{
    ffi::c_void,
    ops::Deref,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use rdkafka::{
    bindings::{
        rd_kafka_queue_cb_event_enable, rd_kafka_queue_destroy, rd_kafka_queue_get_main, rd_kafka_queue_length,
        rd_kafka_queue_t, rd_kafka_t,
    },
    producer::{BaseProducer, Producer as _, ProducerContext},
};

/// The longest wait. Wakers end it earlier; it bounds what a missed one costs.
const IDLE: Duration = Duration::from_secs(1);

/// Its context is told of reports, statistics and errors on a thread of its own. Dropping it waits for that thread.
pub(crate) struct Reporting<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Reporting<C> {
    pub(crate) fn start(producer: BaseProducer<C>) -> std::io::Result<Self> {
        let (producer, stop) = (Arc::new(producer), Arc::<AtomicBool>::default());
        let thread = thread::Builder::new().name("producer reports".to_owned()).spawn({
            let (producer, stop) = (producer.clone(), stop.clone());
            move || serve(&producer, &stop)
        })?;
        Ok(Self { producer, stop, thread: Some(thread) })
    }
}

impl<C: ProducerContext + 'static> Deref for Reporting<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for Reporting<C> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join(); // where it panicked the hook has said so
        }
    }
}

fn serve<C: ProducerContext>(producer: &BaseProducer<C>, stop: &AtomicBool) {
    let events = Events::of(producer.client().native_ptr());
    while !stop.load(Ordering::Acquire) {
        while events.are_there() {
            producer.poll(Duration::ZERO); // one event, which may hold many reports
        }
        thread::park_timeout(IDLE);
    }
}

/// The main queue of a client; it wakes the thread that made this when it is no longer empty.
struct Events {
    queue: *mut rd_kafka_queue_t,
    /// What the queue's callback is given; behind a pointer, because it must not move.
    _waiter: Box<Thread>,
}

impl Events {
    /// `client` must live as long.
    fn of(client: *mut rd_kafka_t) -> Self {
        let waiter = Box::new(thread::current());
        // SAFETY: the client is alive; the queue is a reference of our own, given back on drop; what the callback is
        // given lives until the callback is taken away there.
        let queue = unsafe {
            let queue = rd_kafka_queue_get_main(client);
            rd_kafka_queue_cb_event_enable(queue, Some(wake), ptr::from_ref(&*waiter).cast_mut().cast());
            queue
        };
        Self { queue, _waiter: waiter }
    }

    fn are_there(&self) -> bool {
        // SAFETY: the queue is ours until the drop.
        unsafe { rd_kafka_queue_length(self.queue) > 0 }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: as above. librdkafka calls back under the lock that taking the callback away needs, so it does not
        // any more after that.
        unsafe {
            rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            rd_kafka_queue_destroy(self.queue);
        }
    }
}

unsafe extern "C" fn wake(_client: *mut rd_kafka_t, waiter: *mut c_void) {
    // SAFETY: it is the waiter that the callback was enabled with.
    unsafe { (*waiter.cast::<Thread>()).unpark() }
}
