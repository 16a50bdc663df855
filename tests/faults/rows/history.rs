//! The row in which history is told again beside the live services.
use std::fs;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join;
use headwater_proto::topics;
use headwater_stream::testing::read_topic;
use tokio::time::Instant;

use crate::{scene::Scene, verbs::Verbs};

/// Who is replayed, and a collection that every traffic fills.
const SERVICES: [(&str, &str); 2] = [("analytics", "session_events"), ("fraud", "risk_profiles")];

/// Both services at once, each three times: a replay that is killed, one to the end, and one that stops where that had
/// stopped although the log has grown since. The last two must be equal.
pub(crate) async fn replayed(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.4).await?;
    let verbs = Verbs::of(scene);
    let [analytics, fraud] = SERVICES.map(|(of, collection)| twice(&verbs, of, collection));
    let (analytics, fraud) = try_join(analytics, fraud).await?;
    let healed = Instant::now();
    scene.notes.extend([analytics, fraud]);
    let over = scene.load.is_over();
    scene.demand(!over, "the traffic was over before the replays were");
    Ok(healed)
}

async fn twice(verbs: &Verbs, of: &str, collection: &str) -> Result<String> {
    let made = verbs.killed_replay(of, collection).await?;
    let first = verbs.replay(of, &["--keep"]).await?;
    ensure!(first.comparison.starts_with("not compared: "), "the log stood still: {first:?}");
    let second = verbs.replay(of, &["--until", &first.name]).await?;
    let equal = format!("equal to replay {}", first.name);
    ensure!(second.comparison == equal && second.digest == first.digest, "not equal: {first:?}, {second:?}");
    ensure!(second.records == first.records, "not to the same offsets: {first:?}, {second:?}");
    Ok(format!(
        "{of} under traffic: one replay killed with {made} documents in {collection}, then {}, then {}, equal",
        first.told, second.told
    ))
}

/// Nothing comes any more: two more replays of each, equal to the live documents, and nobody else hears of them. The
/// replays before have sent nothing either: what is on the log twice would be a verdict of theirs.
pub(crate) async fn replayed_at_rest(scene: &mut Scene) -> Result<()> {
    let verbs = Verbs::of(scene);
    let (before, (_, again)) = (said(scene).await?, scene.on_the_log().await?);
    scene.demand(again == 0, format!("{again} records of user.events are there once more"));
    for (of, _) in SERVICES {
        let live = verbs.digest(of).await?;
        for _ in 0..2 {
            let replayed = verbs.replay(of, &[]).await?;
            let equal = replayed.comparison == "equal to the live documents" && replayed.digest == live;
            scene.demand(equal, format!("{of} is {live}, and its replay {replayed:?}"));
            scene.notes.push(format!("{of} at rest: {}, {}", replayed.told, replayed.comparison));
        }
    }
    let after = said(scene).await?;
    scene.demand(after == before, format!("topics and notifications were {before:?} and are {after:?}"));
    Ok(())
}

/// Records of every topic, and bytes of notifications.
async fn said(scene: &Scene) -> Result<(Vec<(&'static str, usize)>, u64)> {
    let mut records = Vec::new();
    for topic in topics::ALL {
        records.push((topic.name, read_topic(&scene.kafka, topic.name).await?.len()));
    }
    let folder = scene.target.notifications.as_ref().context("notifications go to files")?;
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok((records, bytes))
}
