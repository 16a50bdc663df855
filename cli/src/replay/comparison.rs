//! Whether a replay came to what is there already.
use std::{collections::BTreeMap, fmt};

use headwater_documents::{Digest, Documents};
use headwater_stream::{
    KafkaConfig,
    groups::{self, PartitionLag},
    replay::{Span, Start},
};

use super::Plan;
use crate::{Error, Target, live::Live};

/// With the live documents, or with those of an earlier replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    Equal {
        with: String,
    },
    Different {
        with: String,
        collections: Vec<String>,
    },
    /// Nothing stands for the same records.
    Impossible {
        why: &'static str,
    },
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal { with } => write!(f, "equal to {with}"),
            Self::Different { with, collections } => write!(f, "NOT equal to {with}: {}", collections.join(", ")),
            Self::Impossible { why } => write!(f, "not compared: {why}"),
        }
    }
}

impl Comparison {
    /// The exit code's part of it.
    pub(super) fn checked(&self) -> Result<(), Error> {
        match self {
            Self::Different { .. } => Err(Error::Failed(format!("the replay is {self}"))),
            Self::Equal { .. } | Self::Impossible { .. } => Ok(()),
        }
    }

    pub(super) async fn of(
        plan: &Plan,
        target: &Target,
        documents: Option<&Documents>,
        spans: &[Span],
        digest: &Digest,
    ) -> Result<Self, Error> {
        let (of, kafka) = (plan.of, target.kafka());
        if let Some(earlier) = &plan.until {
            let Some(documents) = documents else {
                return Ok(Self::Impossible { why: "what a replay in memory has made is gone with it" });
            };
            let other = of.digest(documents, &earlier.suffix()).await?;
            return Ok(Self::between(format!("replay {earlier}"), digest, &other));
        }
        if plan.from.0 != Start::Beginning {
            return Ok(Self::Impossible { why: "the live documents are of the whole log, these of a part" });
        }
        let group_id = format!("{}{}", of.group().id, target.group_suffix);
        let lag = async || groups::lag(&kafka, &group_id, of.group().topic.name).await;
        let (live, other) = match documents {
            Some(documents) => {
                if let Some(why) = elsewhere(spans, &lag().await?) {
                    return Ok(Self::Impossible { why });
                }
                let other = of.digest(documents, "").await?;
                // it took its time: nothing may have come since
                (lag().await?, other)
            }
            None => match Live::ask(of, target).await {
                Ok(Live { digest, positions }) => (standing(lag().await?, positions.as_ref()), digest),
                // whatever it is, the replay is not to blame for it
                Err(_) => {
                    let why = "the live documents cannot be asked for from here; `headwater digest` tells why";
                    return Ok(Self::Impossible { why });
                }
            },
        };
        if let Some(why) = elsewhere(spans, &live) {
            return Ok(Self::Impossible { why });
        }
        Ok(Self::between("the live documents".to_owned(), digest, &other))
    }

    fn between(with: String, one: &Digest, other: &Digest) -> Self {
        if one.whole == other.whole {
            return Self::Equal { with };
        }
        let both = one.collections.iter().zip(&other.collections);
        let different = both.filter(|(one, other)| one != other).map(|(one, _)| one.name.clone());
        Self::Different { with, collections: different.collect() }
    }
}

/// Where documents in memory stand: their process has read the log from its start, whatever its group has committed.
fn standing(mut live: Vec<PartitionLag>, positions: Option<&BTreeMap<i32, i64>>) -> Vec<PartitionLag> {
    if let Some(positions) = positions {
        for lag in &mut live {
            lag.committed = positions.get(&lag.partition).copied();
        }
    }
    live
}

/// Why the live group stands elsewhere than at the ends of the spans.
fn elsewhere(spans: &[Span], live: &[PartitionLag]) -> Option<&'static str> {
    let ends: BTreeMap<i32, i64> = spans.iter().map(|span| (span.partition, span.end)).collect();
    if live.iter().any(|lag| ends.get(&lag.partition) != Some(&lag.end)) {
        return Some("events came meanwhile; hold ingestion and replay again, or replay twice: --keep, then --until");
    }
    let behind = live.iter().any(|lag| lag.records() > 0);
    behind.then_some("the live service has not read everything yet; see `headwater groups`")
}

/// The spans up to where the group of an earlier replay stopped.
pub(super) async fn until(
    kafka: &KafkaConfig,
    group_id: &str,
    topic: &str,
    spans: Vec<Span>,
) -> Result<Vec<Span>, Error> {
    let lag = groups::lag(kafka, group_id, topic).await?;
    let ends: BTreeMap<i32, i64> =
        lag.iter().filter_map(|partition| Some((partition.partition, partition.committed?))).collect();
    let until = spans.into_iter().map(|span| {
        let end = ends.get(&span.partition).copied();
        let end = end.ok_or_else(|| Error::Usage(format!("--until: no replay has stopped as {group_id}")))?;
        Ok(Span { from: span.from.min(end), end, ..span })
    });
    until.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_group_that_has_read_exactly_as_much_is_compared() {
        let span = |partition, end| Span { partition, from: 0, end };
        let lag =
            |partition, committed, end| PartitionLag { partition, committed, start: 0, end, first_unread_at: None };
        let spans = [span(0, 7), span(1, 0)];
        assert_eq!(elsewhere(&spans, &[lag(0, Some(7), 7), lag(1, None, 0)]), None);
        for (live, why) in [
            ([lag(0, Some(6), 7), lag(1, None, 0)], "has not read everything"),
            ([lag(0, None, 7), lag(1, None, 0)], "has not read everything"),
            ([lag(0, Some(8), 8), lag(1, None, 0)], "events came meanwhile"),
            ([lag(0, Some(7), 7), lag(1, None, 1)], "events came meanwhile"),
        ] {
            let told = elsewhere(&spans, &live);
            assert!(told.is_some_and(|told| told.contains(why)), "{live:?}: {told:?}");
        }
        // a new process in memory, behind an old commit
        let committed = || vec![lag(0, Some(7), 7), lag(1, None, 0)];
        for (positions, equal) in [(None, true), (Some([(0, 7)].into()), true), (Some([(0, 6)].into()), false)] {
            let live = standing(committed(), positions.as_ref());
            assert_eq!(elsewhere(&spans, &live).is_none(), equal, "{positions:?}");
        }
    }
}
