//! The derived stores through their public API, held against what must be in them.
use std::{collections::BTreeMap, future::Future};

use futures::{StreamExt, stream};
use headwater_proto::{
    Day, Millis, Timestamp,
    v1::{
        AccountStatus, EndReason, FraudReport, GetDailyActiveUsersRequest, GetMonthlyActiveUsersRequest,
        GetRiskProfileRequest, GetRiskProfileResponse, GetSessionStatsRequest, GetUserRequest,
        ListDailyActiveUsersRequest, ListFraudReportsRequest, ListSessionsRequest, RiskLevel,
        analytics_client::AnalyticsClient, fraud_client::FraudClient, user_actions_client::UserActionsClient,
    },
};
use tonic::{Code, Response, Status, transport::Channel};

use super::{
    activity::{self, Session},
    expected::Expected,
    risk::{LEVELS, Risk},
    table::Row,
};

const AT_ONCE: usize = 32;
const PAGE: i32 = 1_000;
/// As many days as one ListDailyActiveUsers may ask for.
const DAYS: i64 = 366;

fn millis(timestamp: Option<Timestamp>) -> Option<i64> {
    Millis::try_from(timestamp?).ok().map(Millis::as_millis)
}

/// `None` where the service knows nobody of that name.
fn known<T>(answer: Result<Response<T>, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Asks for each, some at a time.
async fn each<K, V, T, F>(items: impl IntoIterator<Item = (K, V)>, ask: impl Fn(K) -> F) -> Result<Vec<(V, T)>, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let asked = stream::iter(items).map(|(key, value)| {
        let answer = ask(key);
        async move { Ok((value, answer.await?)) }
    });
    let answers: Vec<Result<_, Status>> = asked.buffered(AT_ONCE).collect().await;
    answers.into_iter().collect()
}

pub(crate) async fn active_users(
    expected: &Expected,
    mut client: AnalyticsClient<Channel>,
) -> Result<[Row; 2], Status> {
    let mut days = Row::new("daily active users");
    for (&day, users) in &expected.activity.days {
        let day = Day::from_epoch_days(day as i32).to_string();
        let request = GetDailyActiveUsersRequest { day: day.clone() };
        let found = client.get_daily_active_users(request).await?.into_inner().active_users as usize;
        days.expected += users.len();
        days.found += found;
        days.check(&day, &users.len(), &found);
    }
    // the days around them too: nobody was active there
    if let (Some((first, _)), Some((last, _))) =
        (expected.activity.days.first_key_value(), expected.activity.days.last_key_value())
    {
        let text = |day: i64| Day::from_epoch_days(day as i32).to_string();
        let request = ListDailyActiveUsersRequest { from: text(first - 1), to: text((last + 1).min(first + DAYS - 2)) };
        for listed in client.list_daily_active_users(request).await?.into_inner().days {
            let day = listed.day.parse::<Day>().map(|day| i64::from(day.epoch_days())).unwrap_or(i64::MIN);
            let wanted = expected.activity.days.get(&day).map_or(0, |users| users.len());
            days.check(format_args!("{} in the list", listed.day), &wanted, &(listed.active_users as usize));
        }
    }
    let mut months = Row::new("monthly active users");
    for (month, users) in &expected.activity.months {
        let request = GetMonthlyActiveUsersRequest { month: month.clone() };
        let found = client.get_monthly_active_users(request).await?.into_inner().active_users as usize;
        months.expected += users.len();
        months.found += found;
        months.check(month, &users.len(), &found);
    }
    Ok([days, months])
}

pub(crate) async fn session_stats(
    expected: &Expected,
    mut client: AnalyticsClient<Channel>,
    timeout: i64,
) -> Result<Row, Status> {
    let mut row = Row::new("session statistics by day");
    for &day in expected.activity.days.keys() {
        let start = Day::from_epoch_days(day as i32);
        // at noon: some of the day's sessions are open, some have timed out
        let as_of = start.start().plus_millis(12 * 3_600_000);
        let request = GetSessionStatsRequest { day: start.to_string(), as_of: Some(as_of.into()) };
        let found = client.get_session_stats(request).await?.into_inner();
        let found = activity::Stats {
            started: found.started,
            ended_by_logout: found.ended_by_logout,
            timed_out: found.timed_out,
            open: found.open,
            median_seconds: found.median_seconds,
            p95_seconds: found.p95_seconds,
        };
        let wanted = activity::stats(&expected.activity, day, as_of.as_millis(), timeout);
        row.expected += wanted.started as usize;
        row.found += found.started as usize;
        row.check(start, &wanted, &found);
    }
    Ok(row)
}

/// Start, session id, segment, last activity, end, end reason, events.
type Shown = (Option<i64>, String, i32, Option<i64>, Option<i64>, EndReason, i32);

pub(crate) async fn sessions(
    expected: &Expected,
    client: AnalyticsClient<Channel>,
    timeout: i64,
) -> Result<Row, Status> {
    let mut row = Row::new("sessions");
    // the last moment of the traffic: some sessions are still open
    let all = expected.activity.sessions.values().flatten();
    let as_of = all.map(|session| session.last_activity_at).max().unwrap_or_default();
    let users = expected.activity.sessions.iter().map(|(user, wanted)| (user, (user, wanted)));
    for ((user, wanted), found) in each(users, |user| sessions_of(client.clone(), user, as_of)).await? {
        let wanted: Vec<Shown> = wanted.iter().map(|session| shown(session, as_of, timeout)).collect();
        row.expected += wanted.len();
        row.found += found.len();
        row.check(user, &wanted, &found);
    }
    Ok(row)
}

fn shown(session: &Session, as_of: i64, timeout: i64) -> Shown {
    let reason = session.end(as_of, timeout);
    let last = Some(session.last_activity_at);
    let ended = last.filter(|_| reason != EndReason::Open);
    (Some(session.started_at), session.session_id.clone(), session.segment, last, ended, reason, session.events)
}

async fn sessions_of(mut client: AnalyticsClient<Channel>, user: &str, as_of: i64) -> Result<Vec<Shown>, Status> {
    let as_of = Some(Millis::from_millis(as_of).into());
    let mut request =
        ListSessionsRequest { user_id: user.to_owned(), as_of, page_size: PAGE, ..ListSessionsRequest::default() };
    let mut sessions = Vec::new();
    loop {
        let Some(page) = known(client.list_sessions(request.clone()).await)? else { return Ok(sessions) };
        sessions.extend(page.sessions.into_iter().map(|s| {
            let (reason, ended) = (s.end_reason(), millis(s.ended_at));
            (millis(s.started_at), s.session_id, s.segment, millis(s.last_activity_at), ended, reason, s.events)
        }));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(sessions);
        }
    }
}

/// Score, level and matches: when, which rule, its points and evidence.
type Profile = (i32, RiskLevel, Vec<(Option<i64>, String, i32, Vec<String>)>);

pub(crate) async fn profiles(expected: &Expected, client: FraudClient<Channel>) -> Result<Row, Status> {
    let mut row = Row::new("risk profiles");
    let ask = |user: &String| {
        let (mut client, user_id) = (client.clone(), user.clone());
        async move { known(client.get_risk_profile(GetRiskProfileRequest { user_id }).await) }
    };
    let users = expected.risks.iter().map(|(user, wanted)| (user, (user, wanted)));
    for ((user, wanted), found) in each(users, ask).await? {
        row.compare(user, Some(wanted_profile(wanted)), found.map(found_profile));
    }
    Ok(row)
}

fn wanted_profile(risk: &Risk) -> Profile {
    let level = match LEVELS.iter().rev().find(|(score, _)| risk.score() >= *score) {
        None => RiskLevel::None,
        Some((_, "user.flagged")) => RiskLevel::Flagged,
        Some((_, "user.password_reset_required")) => RiskLevel::PasswordResetRequired,
        Some(_) => RiskLevel::Suspended,
    };
    let matches = risk.matches.iter().map(|m| {
        let evidence = m.evidence.iter().map(|(.., id)| id.clone()).collect();
        (Some(m.matched_at), m.rule.to_owned(), m.points, evidence)
    });
    let mut matches: Vec<_> = matches.collect();
    matches.sort();
    (risk.score(), level, matches)
}

fn found_profile(found: GetRiskProfileResponse) -> Profile {
    let (score, level) = (found.score, found.level());
    let matches = found.matches.into_iter();
    let mut matches: Vec<_> = matches.map(|m| (millis(m.matched_at), m.rule, m.points, m.evidence_event_ids)).collect();
    matches.sort();
    (score, level, matches)
}

/// User, trigger, action, score, rules, evidence and when.
type Reported = (String, String, String, i32, Vec<String>, Vec<String>, Option<i64>);

pub(crate) async fn reports(expected: &Expected, mut client: FraudClient<Channel>) -> Result<Row, Status> {
    let mut row = Row::new("fraud reports");
    let mut found: BTreeMap<String, FraudReport> = BTreeMap::new();
    let mut request = ListFraudReportsRequest { page_size: PAGE, ..ListFraudReportsRequest::default() };
    loop {
        let page = client.list_fraud_reports(request.clone()).await?.into_inner();
        found.extend(page.reports.into_iter().map(|report| (report.report_id.clone(), report)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    for (user, wanted) in expected.reports() {
        let rules = wanted.rules.iter().map(|rule| (*rule).to_owned()).collect();
        let (trigger, action) = (wanted.trigger.clone(), wanted.action.to_owned());
        let wanted_report: Reported =
            (user.clone(), trigger, action, wanted.score, rules, wanted.evidence.clone(), Some(wanted.decided_at));
        row.compare(&wanted.report_id, Some(wanted_report), found.remove(&wanted.report_id).map(reported));
    }
    for (id, report) in found {
        row.compare(id, None, Some(reported(report)));
    }
    Ok(row)
}

fn reported(found: FraudReport) -> Reported {
    let mut rules = found.rules;
    rules.sort_unstable();
    let decided_at = millis(found.decided_at);
    (found.user_id, found.event_id, found.action, found.score, rules, found.evidence_event_ids, decided_at)
}

pub(crate) async fn accounts(expected: &Expected, client: UserActionsClient<Channel>) -> Result<Row, Status> {
    let mut row = Row::new("accounts");
    let ask = |user: &String| {
        let (mut client, user_id) = (client.clone(), user.clone());
        async move { known(client.get_user(GetUserRequest { user_id }).await) }
    };
    let users = expected.accounts.iter().map(|(user, wanted)| (user, (user, wanted)));
    for ((user, wanted), found) in each(users, ask).await? {
        let status = match expected.statuses.get(user).copied() {
            None => AccountStatus::Active,
            Some("user.flagged") => AccountStatus::Flagged,
            Some("user.password_reset_required") => AccountStatus::PasswordResetRequired,
            Some(_) => AccountStatus::Suspended,
        };
        let wanted = (
            wanted.email.clone(),
            status,
            wanted.last_ip.clone(),
            wanted.last_login_at,
            wanted.failed_attempts,
            wanted.created_at,
        );
        let found = found.map(|f| {
            let (status, created_at) = (f.status(), millis(f.created_at).unwrap_or(i64::MIN));
            (f.email, status, f.last_ip, millis(f.last_login_at), f.failed_attempts, created_at)
        });
        row.compare(user, Some(wanted), found);
    }
    Ok(row)
}
