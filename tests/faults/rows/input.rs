//! Rows in which the callers are the fault.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use headwater_cli::simulate::{Action, Call, Journal, Outcome, Parameters, Poison, Record, Scenario, call};
use headwater_proto::{
    topics::{self, USER_EVENTS},
    v1::{EventEnvelope, Payload, RecordActionRequest, user_actions_client::UserActionsClient},
};
use headwater_stream::{
    Clock as _, SystemClock, apply_topics, groups,
    testing::{RawWriter, delete_topics},
};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{
    Code,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

use crate::{
    load::Load,
    recovery::number,
    scene::Scene,
    storm::storm,
    wait::{lasting, until},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// A journal beside that of the load has a seed, and so users, of its own.
const BESIDE: u64 = 1_000_000;

fn ingress(scene: &Scene) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{}", scene.target.addresses.ingress))?.connect_lazy())
}

pub(crate) async fn cancelled(scene: &mut Scene) -> Result<Instant> {
    const IDLE: &str = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '2 s'";
    scene.load.reached(0.1).await?;
    let calls = scene.choose(10_000, 2_000);
    let storm = storm(ingress(scene)?, scene.load.root(), calls, scene.seed + BESIDE).await?;
    let healed = Instant::now();
    scene.notes.push(format!("{} calls with a deadline of 0 to 5 ms, {} given up", storm.calls, storm.given_up));
    scene.demand(storm.calls >= calls, format!("only {} calls had a deadline", storm.calls));
    scene.demand(storm.given_up > storm.calls / 10, format!("only {} calls were given up", storm.given_up));
    scene.records.push(storm.record);
    until("no connection is idle in a transaction", PATIENCE, async || {
        match number(&scene.parts.database, sqlx::query(IDLE)).await? {
            0 => Ok(()),
            idle => Err(format!("{idle} are")),
        }
    })
    .await?;
    Ok(healed)
}

/// Slow for a while, so that letters pile up; then many more at once.
pub(crate) async fn slow_then_burst(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.1).await?;
    let webhook = scene.webhook().context("this row has a webhook")?;
    webhook.slow(true);
    lasting(Duration::from_secs(20)).await;
    let mut burst = Load::burst(&scene.target, scene.load.root().clone(), 2_000, scene.seed + BESIDE);
    burst.reached(1.0).await?;
    webhook.slow(false);
    let healed = Instant::now();
    let burst = burst.finish().await?;
    scene.records.push(burst);
    Ok(healed)
}

/// Every time that is accepted must come out right, every other must be refused.
pub(crate) async fn extremes(scene: &mut Scene) -> Result<Instant> {
    const DAY: i64 = 86_400_000;
    scene.load.reached(0.1).await?;
    let now = SystemClock.now().as_millis();
    // the first day after year 1 began, both sides of 1970, a leap second's neighbours, a leap day, almost too far ahead
    let times = [-62_135_510_400_000, -1, 0, 1_483_228_799_999, 1_483_228_800_000, 951_868_799_999, now, now + 240_000];
    let seed = scene.seed + BESIDE;
    let action = |user: usize, sequence: usize, occurred_at: i64| Action {
        event_id: uuid::Uuid::from_u64_pair(seed, (user * 1_000 + sequence) as u64).to_string(),
        user_id: format!("extreme-{seed}-{user}"),
        sequence,
        call: Call::RecordAction,
        event_type: ["user.logged_in", "user.ip_changed", "user.logged_out", "user.login_failed"][sequence % 4].into(),
        occurred_at,
        email: format!("extreme-{user}@example.com"),
        ip: format!("198.51.100.{}", sequence % 200 + 1),
        session_id: format!("session-{}", sequence / 8),
        label: Scenario::Normal,
        repeat: None,
    };
    // a user for each time, and one who is everywhere at once
    let alone =
        times.iter().enumerate().flat_map(|(user, time)| (0..4).map(move |n| (user, n, time + n as i64 * 1_000)));
    let everywhere = (0..64).map(|n| (times.len(), n, times[n * 5 % times.len()] + n as i64 % 7 * DAY));
    let everywhere = everywhere.filter(|(_, _, time)| *time <= now + 270_000);
    let accepted: Vec<Action> = alone.chain(everywhere).map(|(user, n, time)| action(user, n, time)).collect();
    let parameters = Parameters { events: accepted.len(), seed, scenarios: vec![], late: 0.0, duplicates: 0.0 };
    let mut journal = Journal::create(scene.load.root(), &parameters, &accepted)?;
    let mut client = UserActionsClient::new(ingress(scene)?);
    for action in &accepted {
        let answer = call(&mut client, action, 0, None).await;
        scene.demand(answer.is_ok(), format!("occurredAt {} was refused: {answer:?}", action.occurred_at));
        journal.write(&action.event_id, Outcome::Acknowledged, "")?;
    }
    journal.sync()?;
    scene.records.push(Record::read(journal.folder().to_owned())?);

    let refused = [now + 6 * 60_000, now + 400 * DAY, 253_402_300_799_999];
    for (n, time) in refused.into_iter().enumerate() {
        let answer = call(&mut client, &action(999, n, time), 0, None).await;
        let told = answer.as_ref().err().map(headwater_tests::reason);
        scene.demand(told.as_deref() == Some("EVENT_TIME_IN_FUTURE"), format!("occurredAt {time}: {answer:?}"));
    }
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, i32::MAX), (253_402_300_800, 0)] {
        let action = action(999, 9, 0);
        let request = RecordActionRequest {
            event_type: action.event_type,
            user_id: action.user_id,
            occurred_at: Some(headwater_proto::Timestamp { seconds, nanos }),
            ..RecordActionRequest::default()
        };
        let answer = client.record_action(request).await.map_err(|status| status.code());
        let is_refused = matches!(answer, Err(Code::InvalidArgument));
        scene.demand(is_refused, format!("occurredAt of {seconds} s and {nanos} ns: {answer:?}"));
    }
    Ok(Instant::now())
}

/// Refused, each of them, and nobody's memory grows by them (I8).
pub(crate) async fn huge(scene: &mut Scene) -> Result<Instant> {
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 8;
    scene.load.reached(0.1).await?;
    let request = |bytes: usize| RecordActionRequest {
        event_type: "user.logged_in".into(),
        user_id: "huge".into(),
        payload: Some(Payload { user_agent: "a".repeat(bytes), ..Payload::default() }),
        ..RecordActionRequest::default()
    };
    let (plain, channel) = (request(3 << 20), ingress(scene)?);
    let bomb = request(64 << 20);
    let json = format!(
        r#"{{"eventType":"user.logged_in","userId":"huge","payload":{{"userAgent":"{}"}}}}"#,
        "a".repeat(3 << 20)
    );
    let url = format!("http://{}/headwater.v1.UserActions/RecordAction", scene.target.addresses.http);
    let http = reqwest::Client::new();
    for _ in 0..ROUNDS {
        try_join_all((0..AT_ONCE).map(async |n| {
            let mut client = UserActionsClient::new(channel.clone());
            let code = client.record_action(plain.clone()).await.map_err(|status| status.code());
            ensure!(matches!(code, Err(Code::OutOfRange)), "3 MiB as gRPC: {code:?}");
            if n == 0 {
                let mut client = UserActionsClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
                let code = client.record_action(bomb.clone()).await.map_err(|status| status.code());
                let is_refused = matches!(code, Err(Code::OutOfRange | Code::Unimplemented | Code::ResourceExhausted));
                ensure!(is_refused, "64 MiB in few bytes: {code:?}");
            }
            let request = http.post(&url).header("content-type", "application/json").body(json.clone());
            let status = request.send().await?.status().as_u16();
            ensure!(status == 413, "3 MiB as JSON: {status}");
            Ok(())
        }))
        .await?;
    }
    Ok(Instant::now())
}

/// Nobody can read them, nobody is held up by them, and every group has set aside exactly these (I7).
pub(crate) async fn poisoned(scene: &mut Scene) -> Result<Instant> {
    let rounds = scene.choose(8, 3);
    for n in 0..rounds {
        scene.load.reached(0.1 + 0.6 * f64::from(n) / f64::from(rounds)).await?;
        poison(scene).await?;
    }
    Ok(Instant::now())
}

async fn poison(scene: &mut Scene) -> Result<()> {
    let writer = RawWriter::open(&scene.kafka);
    let foreign = EventEnvelope { aggregate_id: "somebody-else".into(), ..EventEnvelope::default() }.encode_to_vec();
    let huge = vec![0xff; 1 << 20];
    let values: [&[u8]; 5] = [b"!", b"{\"eventId\":", b"\x08\x96\x01", &foreign, &huge];
    for value in values {
        let position = writer.write(USER_EVENTS.name, None, Some(b"poisoned"), Some(value), &[]).await;
        scene.poison.insert(Poison { partition: position.partition, offset: position.offset });
    }
    Ok(())
}

/// The offset of what cannot be read stays until its letter is written, however long that takes.
pub(crate) async fn letters_away(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.2).await?;
    delete_topics(&scene.kafka, &[topics::NOTIFICATIONS_DLQ]).await;
    poison(scene).await?;
    scene.load.reached(0.5).await?;
    let id = format!("{}{}", topics::NOTIFICATION.id, scene.parts.suffix);
    let lag = groups::lag(&scene.kafka, &id, USER_EVENTS.name).await?;
    for poison in &scene.poison {
        let at = lag.iter().find(|lag| lag.partition == poison.partition).and_then(|lag| lag.committed);
        let held = at.is_none_or(|at| at <= poison.offset);
        ensure!(held, "{id} went past what has no letter: {poison:?}, committed {at:?}");
    }
    until("the topic of dead letters is there again", PATIENCE, async || {
        apply_topics(&scene.kafka, topics::ALL).await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    Ok(Instant::now())
}
