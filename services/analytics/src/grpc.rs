//! `headwater.v1.Analytics`: questions about activity and sessions. Reads only; every bad field is named at once.
use std::{sync::Arc, time::Duration};

use headwater_proto::{
    Day, Millis, Month, Timestamp, UserId,
    v1::{self, analytics_server::Analytics},
};
use headwater_rpc::{Reason, Violations, next_page_token, page_size, page_token, refuse, refuse_for_now};
use headwater_stream::Clock;
use tonic::{Request, Response, Status};

use crate::{
    Config, Error, StoreError,
    activity::Period,
    listing::{self, Listed, Place},
    metric::Metric,
    sessions::{End, Timeout},
    stats::day_stats,
    store::Store,
};

/// How many days one answer holds.
const MAX_DAYS: i32 = 366;
/// What a client is asked to wait when the store is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers from a store. Cheap to clone.
#[derive(Clone)]
pub struct Api<S> {
    store: S,
    clock: Arc<dyn Clock>,
    timeout: Timeout,
}

impl<S: Store> Api<S> {
    /// `clock` stands in where a request names no moment.
    pub fn new(config: &Config, store: S, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { store, clock, timeout: config.timeout().map_err(Error::Config)? })
    }

    fn moment(&self, as_of: Option<Timestamp>, violations: &mut Violations) -> Option<Millis> {
        match as_of {
            Some(as_of) => violations.field("as_of", Millis::try_from(as_of)),
            None => Some(self.clock.now()),
        }
    }

    async fn figures(&self, metrics: &[Metric]) -> Result<Vec<i64>, Status> {
        let figures = self.store.figures(metrics).await.map_err(unavailable)?;
        Ok(figures.into_iter().map(int64).collect())
    }

    async fn active_users(&self, period: Period) -> Result<i64, Status> {
        Ok(self.figures(&[Metric::ActiveUsers(period)]).await?.into_iter().sum())
    }

    fn session(&self, &Listed { key, number, segment }: &Listed<'_>, as_of: Millis) -> v1::Session {
        let end = segment.end(as_of, self.timeout);
        let last_activity_at = Some(Timestamp::from(segment.last_activity_at));
        v1::Session {
            user_id: key.user_id.to_string(),
            session_id: key.session_id.to_string(),
            segment: int32(number),
            started_at: Some(segment.started_at.into()),
            last_activity_at,
            ended_at: last_activity_at.filter(|_| end != End::Open),
            end_reason: match end {
                End::Open => v1::EndReason::Open,
                End::Logout => v1::EndReason::Logout,
                End::Timeout => v1::EndReason::Timeout,
            }
            .into(),
            events: int32(segment.events),
        }
    }
}

#[tonic::async_trait]
impl<S: Store> Analytics for Api<S> {
    async fn get_daily_active_users(
        &self,
        request: Request<v1::GetDailyActiveUsersRequest>,
    ) -> Result<Response<v1::GetDailyActiveUsersResponse>, Status> {
        let mut violations = Violations::new();
        let day = violations.field("day", request.get_ref().day.parse::<Day>());
        let day = checked(day, violations)?;
        let active_users = self.active_users(Period::Day(day)).await?;
        Ok(Response::new(v1::GetDailyActiveUsersResponse { day: day.to_string(), active_users }))
    }

    async fn get_monthly_active_users(
        &self,
        request: Request<v1::GetMonthlyActiveUsersRequest>,
    ) -> Result<Response<v1::GetMonthlyActiveUsersResponse>, Status> {
        let mut violations = Violations::new();
        let month = violations.field("month", request.get_ref().month.parse::<Month>());
        let month = checked(month, violations)?;
        let active_users = self.active_users(Period::Month(month)).await?;
        Ok(Response::new(v1::GetMonthlyActiveUsersResponse { month: month.to_string(), active_users }))
    }

    async fn list_daily_active_users(
        &self,
        request: Request<v1::ListDailyActiveUsersRequest>,
    ) -> Result<Response<v1::ListDailyActiveUsersResponse>, Status> {
        let request = request.get_ref();
        let mut violations = Violations::new();
        let from = violations.field("from", request.from.parse::<Day>());
        let to = violations.field("to", request.to.parse::<Day>());
        let range = from.zip(to).map(|(from, to)| (from.epoch_days(), to.epoch_days()));
        match range {
            Some((from, to)) if to < from => violations.add("to", Reason::InvalidField, "must not be before from"),
            Some((from, to)) if to - from >= MAX_DAYS => {
                violations.add("to", Reason::InvalidField, format!("must be at most {MAX_DAYS} days with from"));
            }
            _ => {}
        }
        let (from, to) = checked(range, violations)?;
        let days: Vec<Day> = (from..=to).map(Day::from_epoch_days).collect();
        let metrics: Vec<Metric> = days.iter().map(|&day| Metric::ActiveUsers(Period::Day(day))).collect();
        let counts = self.figures(&metrics).await?;
        let days = days.iter().zip(counts);
        let days = days.map(|(day, active_users)| v1::DailyActiveUsers { day: day.to_string(), active_users });
        Ok(Response::new(v1::ListDailyActiveUsersResponse { days: days.collect() }))
    }

    async fn get_session_stats(
        &self,
        request: Request<v1::GetSessionStatsRequest>,
    ) -> Result<Response<v1::GetSessionStatsResponse>, Status> {
        let request = request.get_ref();
        let mut violations = Violations::new();
        let day = violations.field("day", request.day.parse::<Day>());
        let as_of = self.moment(request.as_of, &mut violations);
        let (day, as_of) = checked(day.zip(as_of), violations)?;
        let segments = self.store.segments_started_on(day).await.map_err(unavailable)?;
        let stats = day_stats(&segments, as_of, self.timeout);
        Ok(Response::new(v1::GetSessionStatsResponse {
            day: day.to_string(),
            started: int64(stats.started),
            ended_by_logout: int64(stats.ended_by_logout),
            timed_out: int64(stats.timed_out),
            open: int64(stats.open),
            median_seconds: stats.median as f64 / 1_000.0,
            p95_seconds: stats.p95 as f64 / 1_000.0,
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let request = request.get_ref();
        let mut violations = Violations::new();
        let user_id = violations.field("user_id", UserId::try_from(request.user_id.as_str()));
        let as_of = self.moment(request.as_of, &mut violations);
        let size = page_size(request.page_size, &mut violations);
        let after: Option<Place> = page_token(&request.page_token, &mut violations);
        let (user_id, as_of) = checked(user_id.zip(as_of), violations)?;

        let Some(sessions) = self.store.sessions_of(&user_id).await.map_err(unavailable)? else {
            return Err(refuse(Reason::UserNotFound, "user_id: analytics has never seen this user"));
        };
        let (page, next) = listing::page(&sessions, after.as_ref(), size);
        let listed = page.iter().map(|listed| self.session(listed, as_of)).collect();
        let next_page_token = next.map(|place| next_page_token(&place)).unwrap_or_default();
        Ok(Response::new(v1::ListSessionsResponse { sessions: listed, next_page_token }))
    }
}

/// The parsed fields of a request, or everything that is wrong with it.
fn checked<T>(fields: Option<T>, violations: Violations) -> Result<T, Status> {
    violations.finish()?;
    fields.ok_or_else(|| Status::internal("a field was neither parsed nor refused"))
}

/// Counts that outgrow their field stand at its end.
fn int64(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn int32(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

fn unavailable(error: StoreError) -> Status {
    tracing::warn!(error = &error as &dyn std::error::Error, "a question to analytics went unanswered");
    refuse_for_now(Reason::StoreUnavailable, "the analytics store is unavailable", RETRY_AFTER)
}
