//! Waits until every consumer has finished everything: then what they made of the log can be compared.
use std::time::Duration;

use futures::future::try_join_all;
use headwater_proto::topics::{self, Group};
use headwater_stream::groups::{self, PartitionLag};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{Error, Target, simulate::Audience};

/// Those that read user.events.
pub(crate) const GROUPS: [Group; 4] = [topics::ANALYTICS, topics::NOTIFICATION, topics::FRAUD, topics::ACCOUNT_STATUS];
const POLL: Duration = Duration::from_millis(500);
const TOLD: Duration = Duration::from_secs(5);
/// Without anything moving.
const PATIENCE: Duration = Duration::from_secs(60);

/// One partition as one group sees it.
type Standing = (String, PartitionLag);

/// Fraud writes what others have yet to read, so that it is quiet only when nobody lags twice and nothing was written
/// in between.
pub(crate) async fn until_quiet(target: &Target, audience: Audience) -> Result<(), Error> {
    let mut before: Vec<Standing> = Vec::new();
    let mut moved = Instant::now();
    let mut told = moved;
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = standings(target).await?;
        let behind: i64 = now.iter().map(|(_, lag)| lag.records()).sum();
        if now == before {
            if behind == 0 {
                return Ok(());
            }
            if moved.elapsed() > PATIENCE {
                return Err(Error::Failed(format!("nothing has moved for {PATIENCE:?}: {}", laggards(&now))));
            }
        } else {
            moved = Instant::now();
        }
        if behind > 0 && told.elapsed() >= TOLD {
            audience.tell(format_args!("waiting for {}", laggards(&now)));
            told = Instant::now();
        }
        before = now;
    }
}

pub(crate) fn group_id(target: &Target, group: Group) -> String {
    format!("{}{}", group.id, target.group_suffix)
}

async fn standings(target: &Target) -> Result<Vec<Standing>, Error> {
    let kafka = target.kafka();
    let of_group = async |group: Group| {
        let id = group_id(target, group);
        let lag = groups::lag(&kafka, &id, group.topic.name).await?;
        Ok::<_, Error>(lag.into_iter().map(|lag| (id.clone(), lag)).collect::<Vec<_>>())
    };
    Ok(try_join_all(GROUPS.map(of_group)).await?.concat())
}

/// Each group that is behind and by how much.
fn laggards(standings: &[Standing]) -> String {
    let mut groups: Vec<(&str, i64, Vec<i32>)> = Vec::new();
    for (group, lag) in standings.iter().filter(|(_, lag)| lag.records() > 0) {
        match groups.iter_mut().find(|(known, ..)| known == group) {
            Some((_, records, partitions)) => {
                *records += lag.records();
                partitions.push(lag.partition);
            }
            None => groups.push((group, lag.records(), vec![lag.partition])),
        }
    }
    let told = groups
        .iter()
        .map(|(group, records, partitions)| format!("{group}, {records} records behind in partitions {partitions:?}"));
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_is_told_by_group_with_the_partitions() {
        let standing = |group: &str, partition, next, end| {
            let lag = PartitionLag { partition, committed: Some(next), start: 0, end, first_unread_at: None };
            (group.to_owned(), lag)
        };
        let standings =
            [standing("a", 0, 5, 5), standing("b", 0, 5, 7), standing("b", 1, 0, 0), standing("b", 2, 1, 2)];
        assert_eq!(laggards(&standings), "b, 3 records behind in partitions [0, 2]");
    }
}
