//! A group in which one member is gone for good and another one comes: seen where people look.
use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use headwater_cli::Scrape;
use headwater_otel::names;
use headwater_proto::topics::NOTIFICATION;
use serde_json::Value;
use tokio::time::Instant;

use crate::{scene::Scene, verbs::Verbs, wait::until};

/// For a member that was killed to be missed (session.timeout.ms, 10 s), and the others to agree.
const PATIENCE: Duration = Duration::from_secs(45);

/// Three processes of notification, one killed and not started again, one added. The load goes on.
pub(crate) async fn one_gone_one_new(scene: &mut Scene) -> Result<Instant> {
    shared(scene, &["notification-1", "notification-2", "notification-3"]).await?;
    scene.load.reached(0.2).await?;
    let gone = scene.lose("notification-2").await?;
    shared(scene, &["notification-1", "notification-3"]).await?;
    scene.load.reached(0.6).await?;
    scene.add(gone.named("notification-4")).await?;
    let healed = Instant::now();
    shared(scene, &["notification-1", "notification-3", "notification-4"]).await?;
    scene.notes.push(format!(
        "twelve partitions on three, two, three members; evenly {:.1?} after the last came",
        healed.elapsed()
    ));
    Ok(healed)
}

/// The partitions are shared evenly by these members and no others: `headwater groups` says so, the metric of each
/// process says the same, and each has logged what it was assigned.
async fn shared(scene: &Scene, members: &[&str]) -> Result<()> {
    let verbs = Verbs::of(scene);
    let partitions = NOTIFICATION.topic.partitions as usize;
    let even = |owned: &BTreeMap<String, usize>| {
        owned.keys().eq(members.iter().copied()) && owned.values().all(|&count| count == partitions / members.len())
    };
    until(format_args!("partitions are shared by {members:?}"), PATIENCE, async || {
        let shown = verbs.run(&["groups", "--json"]).await.map_err(|error| format!("{error:#}"))?;
        let listed = listed(&shown, &scene.parts.suffix).map_err(|error| format!("{error:#}"))?;
        let mut measured = BTreeMap::new();
        for name in members {
            measured.insert((*name).to_owned(), measured_at(scene, name).await.map_err(|error| format!("{error:#}"))?);
        }
        let silent: Vec<&&str> = members.iter().filter(|name| !has_told(scene, name)).collect();
        if even(&listed) && measured == listed && silent.is_empty() {
            Ok(())
        } else {
            Err(format!("headwater groups: {listed:?}; metrics: {measured:?}; nothing of it in the log of {silent:?}"))
        }
    })
    .await
}

/// How many partitions each instance has by `headwater groups`.
fn listed(shown: &str, suffix: &str) -> Result<BTreeMap<String, usize>> {
    let shown: Value = serde_json::from_str(shown)?;
    let id = format!("{}{suffix}", NOTIFICATION.id);
    let groups = shown["groups"].as_array().context("no groups")?;
    let group = groups.iter().find(|group| group["group"] == id.as_str()).context("no group of notification")?;
    let members = group["members"].as_array().context("no members")?;
    let owned = members.iter().map(|member| {
        let instance = member["instance"].as_str().context("a member without an instance")?;
        let partitions = member["partitions"].as_array().context("a member without partitions")?;
        Ok((instance.to_owned(), partitions.len()))
    });
    owned.collect()
}

async fn measured_at(scene: &Scene, name: &str) -> Result<usize> {
    let scrape = Scrape::of(&reqwest::Client::new(), &[scene.process(name)?.admin()]).await?;
    let owned = scrape.sum(names::CONSUMER_PARTITIONS, &[(names::INSTANCE, name)]);
    Ok(owned.context("no gauge of partitions")? as usize)
}

fn has_told(scene: &Scene, name: &str) -> bool {
    let said = scene.process(name).map(|process| process.said()).unwrap_or_default();
    said.lines().any(|line| line.contains("assigned") && line.contains(name))
}
