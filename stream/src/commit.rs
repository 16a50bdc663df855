//! A commit whose answer is waited for, but not for ever.
use std::{ffi::c_int, ptr, time::Duration};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{IsError as _, KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

/// Commits and waits for the broker's answer, at most for `patience`: then it is a time-out, and the commit may or may
/// not come to be. (librdkafka's synchronous commit waits as long as its coordinator is away, and the thread that waits
/// is the one that would notice.)
pub(crate) fn commit_within<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    patience: Duration,
) -> KafkaResult<()> {
    let client = consumer.client().native_ptr();
    let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: client and list are alive during the call, and librdkafka copies the list. The queue is made and destroyed
    // here; an answer that comes later finds it closed and is dropped by librdkafka. The event is read before it is
    // destroyed, and is null where none came in time.
    let code = unsafe {
        use rdkafka::bindings as kafka;
        let answers = kafka::rd_kafka_queue_new(client);
        let mut code = kafka::rd_kafka_commit_queue(client, offsets.ptr(), answers, None, ptr::null_mut());
        if !code.is_error() {
            let answer = kafka::rd_kafka_queue_poll(answers, millis);
            code = if answer.is_null() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT
            } else {
                let code = kafka::rd_kafka_event_error(answer);
                kafka::rd_kafka_event_destroy(answer);
                code
            };
        }
        kafka::rd_kafka_queue_destroy(answers);
        code
    };
    if code.is_error() { Err(KafkaError::ConsumerCommit(code.into())) } else { Ok(()) }
}
