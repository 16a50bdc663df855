//! Consumer groups as the broker sees them: who is in them, what each member owns, and how far behind they are.
use std::{collections::BTreeMap, time::Duration};

use headwater_proto::Millis;
use rdkafka::{Offset, consumer::Consumer as _, groups::GroupInfo};

use crate::{
    Error, KafkaConfig,
    reader::{Reader, off_the_runtime},
};

/// How long a broker may think about who is in a group.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// One group on one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    pub id: String,
    pub topic: String,
    /// `None` where the broker does not list groups, as the embedded one.
    pub membership: Option<Membership>,
    /// Every partition of the topic, ascending.
    pub partitions: Vec<PartitionLag>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The broker's word: Stable, PreparingRebalance, Empty, Dead, ...
    pub state: String,
    /// By client id.
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Given by the broker; new at every join.
    pub id: String,
    pub client_id: String,
    pub host: String,
    /// The instance's name, where the client is one of ours.
    pub instance: Option<String>,
    /// Of the topic, ascending.
    pub partitions: Vec<i32>,
}

/// How far a group is on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    pub partition: i32,
    /// The next offset the group will read; `None` where it never committed one.
    pub committed: Option<i64>,
    /// The first offset that the log still has.
    pub start: i64,
    /// The offset that the next record will get.
    pub end: i64,
    /// Timestamp of the first record that the group has not finished.
    pub first_unread_at: Option<Millis>,
}

impl PartitionLag {
    /// Records not finished. Without a commit: all there are.
    pub fn records(&self) -> i64 {
        (self.end - self.committed.unwrap_or(self.start).max(self.start)).max(0)
    }

    /// Age of the first record that is not finished; 0 where there is none.
    pub fn seconds(&self, now: Millis) -> f64 {
        self.first_unread_at.map_or(0.0, |at| now.since(at).max(0) as f64 / 1_000.0)
    }
}

impl GroupView {
    /// Records not finished, over all partitions.
    pub fn records(&self) -> i64 {
        self.partitions.iter().map(PartitionLag::records).sum()
    }

    /// Age of the oldest record that is not finished.
    pub fn seconds(&self, now: Millis) -> f64 {
        self.partitions.iter().map(|partition| partition.seconds(now)).fold(0.0, f64::max)
    }

    /// Who owns the partition, as far as the broker tells.
    pub fn owner(&self, partition: i32) -> Option<&Member> {
        self.membership.as_ref()?.members.iter().find(|member| member.partitions.contains(&partition))
    }
}

/// A group with its members, its offsets and the age of what it has not finished.
pub async fn describe(kafka: &KafkaConfig, group_id: &str, topic: &str) -> Result<GroupView, Error> {
    let (kafka, group_id, topic) = (kafka.clone(), group_id.to_owned(), topic.to_owned());
    off_the_runtime(move || {
        let reader = Reader::open(&kafka, &group_id)?;
        let mut partitions = offsets(&reader, &group_id, &topic)?;
        date(&reader, &topic, &mut partitions)?;
        let membership = membership(&reader, &kafka, &group_id, &topic)?;
        Ok(GroupView { id: group_id, topic, membership, partitions })
    })
    .await
}

/// How far the group is on each partition of the topic, without members and ages: cheap enough to be asked again and
/// again until all is read.
pub async fn lag(kafka: &KafkaConfig, group_id: &str, topic: &str) -> Result<Vec<PartitionLag>, Error> {
    let (kafka, group_id, topic) = (kafka.clone(), group_id.to_owned(), topic.to_owned());
    off_the_runtime(move || offsets(&Reader::open(&kafka, &group_id)?, &group_id, &topic)).await
}

fn offsets(reader: &Reader, group_id: &str, topic: &str) -> Result<Vec<PartitionLag>, Error> {
    let failed = |source| Error::Group { group: group_id.to_owned(), source };
    let committed = reader.committed(topic, &reader.partitions(topic)?).map_err(failed)?;
    let offsets = committed.elements().into_iter().map(|element| {
        let partition = element.partition();
        let (start, end) = reader.watermarks(topic, partition)?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(PartitionLag { partition, committed, start, end, first_unread_at: None })
    });
    offsets.collect()
}

/// Reads the timestamps of the first records that are not finished.
fn date(reader: &Reader, topic: &str, partitions: &mut [PartitionLag]) -> Result<(), Error> {
    let unread = partitions.iter().filter(|partition| partition.records() > 0);
    let firsts = unread.map(|lag| {
        let first = lag.committed.unwrap_or(lag.start).max(lag.start);
        (lag.partition, (first, lag.end))
    });
    let mut found = BTreeMap::new();
    reader.read(topic, firsts.collect(), |record| {
        found.insert(record.position.partition, record.timestamp.map(Millis::from_millis));
        false
    })?;
    for partition in partitions {
        partition.first_unread_at = found.get(&partition.partition).copied().flatten();
    }
    Ok(())
}

fn membership(reader: &Reader, kafka: &KafkaConfig, group_id: &str, topic: &str) -> Result<Option<Membership>, Error> {
    use rdkafka::types::RDKafkaErrorCode::UnsupportedFeature;
    let list = match reader.client().fetch_group_list(Some(group_id), LIST_TIMEOUT) {
        Ok(list) => list,
        Err(error) if error.rdkafka_error_code() == Some(UnsupportedFeature) => return Ok(None),
        Err(source) => return Err(Error::Group { group: group_id.to_owned(), source }),
    };
    let Some(group) = list.groups().iter().find(|group| group.name() == group_id) else { return Ok(None) };
    Ok(Some(Membership { state: group.state().to_owned(), members: members(group, kafka, topic) }))
}

fn members(group: &GroupInfo, kafka: &KafkaConfig, topic: &str) -> Vec<Member> {
    let members = group.members().iter().map(|member| Member {
        id: member.id().to_owned(),
        client_id: member.client_id().to_owned(),
        host: member.client_host().trim_start_matches('/').to_owned(),
        instance: kafka.instance_of(member.client_id()).map(str::to_owned),
        partitions: assigned(member.assignment().unwrap_or_default(), topic).unwrap_or_default(),
    });
    let mut members: Vec<Member> = members.collect();
    members.sort_by(|a, b| (&a.client_id, &a.id).cmp(&(&b.client_id, &b.id)));
    members
}

/// The partitions of the topic in a member's assignment, as Kafka's consumer protocol writes it: a version, then
/// topics with their partitions. `None` where the bytes are something else.
fn assigned(bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    let mut rest = bytes;
    let _version = i16::from_be_bytes(take(&mut rest)?);
    let topics = i32::from_be_bytes(take(&mut rest)?);
    let mut found = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        rest = after;
        for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
            let partition = i32::from_be_bytes(take(&mut rest)?);
            if name == topic.as_bytes() {
                found.push(partition);
            }
        }
    }
    found.sort_unstable();
    Some(found)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use headwater_proto::topics::{ANALYTICS, USER_EVENTS};

    use super::*;
    use crate::testing::{RawWriter, embedded};

    #[test]
    fn an_assignment_is_read_as_kafka_writes_it_and_nonsense_is_none() {
        let mut bytes = vec![0, 3, 0, 0, 0, 2];
        for (topic, partitions) in [("other", &[9][..]), ("user.events", &[7, 2])] {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|partition: &i32| bytes.extend(partition.to_be_bytes()));
        }
        let whole = bytes.len();
        bytes.extend([0xff; 4]); // user data: none
        assert_eq!(assigned(&bytes, "user.events"), Some(vec![2, 7]));
        assert_eq!(assigned(&bytes, "nothing"), Some(vec![]));
        for cut in 0..whole {
            assert_eq!(assigned(&bytes[..cut], "user.events"), None, "cut after {cut} bytes");
        }
        assert_eq!(assigned(&[0, 0, 0x7f, 0xff, 0xff, 0xff], "user.events"), None);
    }

    #[test]
    fn lag_is_counted_from_the_commit_or_from_what_the_log_still_has() {
        let lag = |committed, start, end| PartitionLag { partition: 0, committed, start, end, first_unread_at: None };
        #[rustfmt::skip]
        let table = [(None, 0, 0, 0), (None, 0, 7, 7), (None, 5, 7, 2), (Some(3), 0, 7, 4), (Some(7), 0, 7, 0), (Some(3), 5, 7, 2), (Some(9), 0, 7, 0)];
        for (committed, start, end, records) in table {
            assert_eq!(lag(committed, start, end).records(), records, "{committed:?} in {start}..{end}");
        }
        let mut old = lag(Some(0), 0, 1);
        old.first_unread_at = Some(Millis::from_millis(1_000));
        assert_eq!((old.seconds(Millis::from_millis(3_500)), old.seconds(Millis::from_millis(0))), (2.5, 0.0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_embedded_broker_shows_offsets_and_ages_but_no_members() {
        let (_broker, kafka) = embedded();
        let writer = RawWriter::open(&kafka);
        for value in [&b"one"[..], b"two"] {
            writer.write(USER_EVENTS.name, Some(4), Some(b"ann"), Some(value), &[]).await;
        }
        let view = describe(&kafka, ANALYTICS.id, USER_EVENTS.name).await.unwrap();
        assert_eq!(view.membership, None);
        assert_eq!((view.partitions.len(), view.records()), (12, 2));
        let first = &crate::reader::read_topic(&kafka, USER_EVENTS.name).await.unwrap()[0];
        assert_eq!(view.partitions[4].first_unread_at.map(Millis::as_millis), first.timestamp);
        assert!(lag(&kafka, ANALYTICS.id, "nowhere").await.is_err());
    }
}
