//! Topics are created where missing, and those that exist are held against the table.
use std::{sync::Arc, time::Duration};

use headwater_proto::topics::Topic;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};

use crate::{Error, KafkaConfig};

/// For one answer of the broker.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Created,
    Existed,
}

type Admin = AdminClient<DefaultClientContext>;

/// Creates the missing topics, and only those, with the replication of `kafka`; an existing one with another number of
/// partitions is an error. The embedded broker has its topics from its start: there this only checks.
pub async fn apply_topics(kafka: &KafkaConfig, topics: &[Topic]) -> Result<Vec<(Topic, Applied)>, Error> {
    let admin: Admin = kafka.admin().create().map_err(|source| Error::Client { client: "admin client", source })?;
    let admin = Arc::new(admin);
    let applied = apply(&admin, kafka, topics).await;
    // letting a client go waits for its threads
    tokio::task::spawn_blocking(move || drop(admin));
    applied
}

async fn apply(admin: &Arc<Admin>, kafka: &KafkaConfig, topics: &[Topic]) -> Result<Vec<(Topic, Applied)>, Error> {
    let existing = partition_counts(admin, kafka).await?;
    let mut applied = Vec::with_capacity(topics.len());
    let mut missing = Vec::new();
    for topic in topics {
        match existing.iter().find(|(name, _)| name == topic.name) {
            Some(&(_, found)) if topic.fixed && found != topic.partitions => {
                return Err(Error::Partitions { topic: topic.name.to_owned(), expected: topic.partitions, found });
            }
            Some(_) => applied.push((*topic, Applied::Existed)),
            None if kafka.is_embedded() => return Err(Error::TopicMissing { topic: topic.name.to_owned() }),
            None => {
                applied.push((*topic, Applied::Created));
                missing.push(*topic);
            }
        }
    }
    create(admin, kafka, &missing).await?;
    Ok(applied)
}

async fn create(admin: &Admin, kafka: &KafkaConfig, topics: &[Topic]) -> Result<(), Error> {
    if topics.is_empty() {
        return Ok(());
    }
    let min_insync_replicas = kafka.min_insync_replicas.to_string();
    let new_topics: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let replication = TopicReplication::Fixed(kafka.replication_factor);
            let new = NewTopic::new(topic.name, topic.partitions, replication)
                .set("min.insync.replicas", &min_insync_replicas);
            topic.config.iter().fold(new, |new, &(key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let unreachable = |source| Error::Unreachable { brokers: kafka.brokers.clone(), source };
    for result in admin.create_topics(&new_topics, &options).await.map_err(unreachable)? {
        match result {
            // another process that starts beside this one was faster
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, source)) => return Err(Error::CreateTopic { topic, source }),
        }
    }
    Ok(())
}

/// Of every topic the broker has. Asking for all of them creates none.
async fn partition_counts(admin: &Arc<Admin>, kafka: &KafkaConfig) -> Result<Vec<(String, i32)>, Error> {
    let admin = admin.clone();
    let fetched = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, TIMEOUT)?;
        let counts = metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32));
        Ok(counts.collect())
    });
    match fetched.await {
        Ok(counts) => counts.map_err(|source| Error::Unreachable { brokers: kafka.brokers.clone(), source }),
        // the task only ends early where it panicked or the runtime shuts down
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Closed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmbeddedKafka;
    use headwater_proto::topics::{FRAUD_DLQ, NOTIFICATIONS_DLQ, USER_EVENTS};

    #[tokio::test]
    async fn existing_topics_are_left_alone_and_one_with_other_partitions_is_an_error() {
        let kafka = EmbeddedKafka::start(&[USER_EVENTS, FRAUD_DLQ]).unwrap();
        let applied = apply_topics(&kafka.config(), &[USER_EVENTS, FRAUD_DLQ]).await.unwrap();
        assert_eq!(applied, [(USER_EVENTS, Applied::Existed), (FRAUD_DLQ, Applied::Existed)]);

        let wider = Topic { partitions: 24, ..USER_EVENTS };
        let refused = apply_topics(&kafka.config(), &[wider]).await;
        assert!(matches!(refused, Err(Error::Partitions { expected: 24, found: 12, .. })), "{refused:?}");

        let refused = apply_topics(&kafka.config(), &[NOTIFICATIONS_DLQ]).await;
        assert!(matches!(refused, Err(Error::TopicMissing { .. })), "{refused:?}");
    }
}
