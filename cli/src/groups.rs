//! `headwater groups`: who is in each consumer group, what each member owns, and how far behind it is.
use clap::Args;
use headwater_proto::Millis;
use headwater_stream::{
    Clock as _, KafkaConfig, SystemClock,
    groups::{GroupView, PartitionLag, describe},
};
use serde_json::{Value, json};

use crate::{
    Error,
    print::print,
    roles,
    settings::Settings,
    up::{self, Announced, announced},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(options: Options, settings: &Settings) -> Result<(), Error> {
    let kafka = broker(settings)?;
    let mut groups = Vec::new();
    for group in up::groups(settings) {
        let id = format!("{}{}", group.id, settings.group_suffix);
        groups.push(describe(&kafka, &id, group.topic.name).await?);
    }
    let now = SystemClock.now();
    let text = if options.json { format!("{:#}\n", facts(&groups, now)) } else { table(&groups, now) };
    print("the groups", text)
}

/// The configured broker, else that of the `up` that runs in this folder.
fn broker(settings: &Settings) -> Result<KafkaConfig, Error> {
    if let Some(kafka) = roles::kafka(settings) {
        return Ok(kafka);
    }
    match announced()? {
        Some(Announced { bootstrap, .. }) => Ok(KafkaConfig::new(bootstrap)),
        None => Err(Error::Usage(
            "KAFKA_BROKERS is not set and no `headwater up` runs in this folder: set it, or go where it runs"
                .to_owned(),
        )),
    }
}

fn facts(groups: &[GroupView], now: Millis) -> Value {
    let groups = groups.iter().map(|group| {
        let members = group.membership.as_ref().map(|membership| {
            let members = membership.members.iter().map(|member| {
                json!({
                    "clientId": member.client_id, "host": member.host, "instance": member.instance,
                    "partitions": member.partitions,
                })
            });
            members.collect::<Vec<_>>()
        });
        let partitions = group.partitions.iter().map(|lag| {
            json!({
                "partition": lag.partition, "committed": lag.committed, "start": lag.start, "end": lag.end,
                "lag": lag.records(), "lagSeconds": lag.seconds(now),
                "clientId": group.owner(lag.partition).map(|member| &member.client_id),
            })
        });
        json!({
            "group": group.id, "topic": group.topic, "lag": group.records(), "lagSeconds": group.seconds(now),
            "state": group.membership.as_ref().map(|membership| &membership.state),
            "members": members, "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    json!({ "groups": groups.collect::<Vec<_>>() })
}

fn table(groups: &[GroupView], now: Millis) -> String {
    let mut text = String::new();
    for group in groups {
        let state = group.membership.as_ref().map(|membership| membership.state.as_str());
        let state = state.unwrap_or("members unknown: this broker lists no groups, as the embedded one");
        text.push_str(&format!(
            "{} on {}: lag {} records, {:.1} s ({state})\n",
            group.id,
            group.topic,
            group.records(),
            group.seconds(now),
        ));
        for member in group.membership.iter().flat_map(|membership| &membership.members) {
            let partitions = member.partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let instance = member.instance.as_deref().unwrap_or("-");
            let (client, host) = (&member.client_id, &member.host);
            text.push_str(&format!("  instance {instance:<12} {client:<24} {host:<16} owns {partitions}\n"));
        }
        text.push_str("  partition    committed          end          lag    seconds  instance\n");
        for lag in &group.partitions {
            text.push_str(&row(group, lag, now));
        }
        text.push('\n');
    }
    text
}

fn row(group: &GroupView, lag: &PartitionLag, now: Millis) -> String {
    let committed = lag.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let owner = group.owner(lag.partition).map(|member| member.instance.as_deref().unwrap_or(&member.client_id));
    let (partition, end, records, seconds) = (lag.partition, lag.end, lag.records(), lag.seconds(now));
    let owner = owner.unwrap_or("-");
    format!("  {partition:>9} {committed:>12} {end:>12} {records:>12} {seconds:>10.1}  {owner}\n")
}

#[cfg(test)]
mod tests {
    use headwater_stream::groups::{Member, Membership};

    use super::*;

    fn view(membership: Option<Membership>) -> GroupView {
        let lag = |partition, committed, first_unread_at| PartitionLag {
            partition,
            committed,
            start: 0,
            end: 9,
            first_unread_at,
        };
        let partitions =
            vec![lag(0, Some(9), None), lag(1, Some(4), Some(Millis::from_millis(7_500))), lag(2, None, None)];
        GroupView { id: "a-group".to_owned(), topic: "user.events".to_owned(), membership, partitions }
    }

    #[test]
    fn a_table_says_who_owns_what_and_how_far_behind_it_is() {
        let member = Member {
            id: "x".to_owned(),
            client_id: "headwater-2".to_owned(),
            host: "127.0.0.1".to_owned(),
            instance: Some("2".to_owned()),
            partitions: vec![0, 1],
        };
        let membership = Membership { state: "Stable".to_owned(), members: vec![member] };
        let (now, groups) = (Millis::from_millis(10_000), [view(Some(membership))]);
        let text = table(&groups, now);
        assert!(text.contains("a-group on user.events: lag 14 records, 2.5 s (Stable)"), "{text}");
        assert!(text.contains("owns 0 1"), "{text}");
        assert!(text.contains("        1            4            9            5        2.5  2"), "{text}");
        assert!(text.contains("        2            -            9            9        0.0  -"), "{text}");
        let facts = facts(&groups, now);
        assert_eq!(facts["groups"][0]["partitions"][1]["lagSeconds"], 2.5);
        assert_eq!(facts["groups"][0]["members"][0]["instance"], "2");
    }

    #[test]
    fn a_broker_that_lists_no_groups_is_said_to() {
        let groups = [view(None)];
        assert!(table(&groups, Millis::from_millis(0)).contains("this broker lists no groups"));
        assert!(facts(&groups, Millis::from_millis(0))["groups"][0]["members"].is_null());
    }
}
