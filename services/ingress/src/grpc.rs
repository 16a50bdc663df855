//! Receiving: what the outside asks becomes an action, and what came of it an answer.
//!
//! A handler only waits. The work of a call runs in a task of its own, so a client that cancels, or whose deadline
//! passes, never stops a transaction half way: what it asked for happens, or does not, as a whole. The door forgets
//! such a call at once, so those in work are counted here once more.
mod accounts;
mod refusal;
mod stream;

use std::{future::Future, sync::Arc};

use headwater_proto::{Timestamp, v1, v1::user_actions_server::UserActions};
use headwater_rpc::{Reason, trace_of};
use headwater_stream::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use crate::{
    action::{Action, Answer, Origin},
    config::Config,
    digest::Digests,
    lanes::{Failure, Lanes},
    passwords::Passwords,
    users::{Receipt, Status as AccountStatus, Store},
    validate::{self, Arrival},
};

/// The metadata key of a caller's own id for a chain of calls; each of their events carries it.
const CORRELATION_ID: &str = "x-correlation-id";

/// `headwater.v1.UserActions`. Clones share everything.
pub struct Api<S> {
    shared: Arc<Shared<S>>,
}

pub(crate) struct Shared<S> {
    pub(crate) config: Config,
    pub(crate) store: S,
    pub(crate) lanes: Lanes,
    pub(crate) passwords: Passwords,
    pub(crate) digests: Digests,
    pub(crate) clock: Arc<dyn Clock>,
    /// A permit per unary call in work.
    pub(crate) room: Arc<Semaphore>,
    /// Calls and streams in work.
    pub(crate) calls: TaskTracker,
    /// No new call is taken and no stream is read on.
    pub(crate) draining: CancellationToken,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: Store> Api<S> {
    pub(crate) fn new(shared: Shared<S>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    #[cfg(test)]
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.shared.lanes
    }

    /// Does the work of a unary call in a task that goes on when the caller has gone.
    async fn call<R, T, F, Work>(&self, request: Request<R>, work: F) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: FnOnce(Self, R, Origin) -> Work,
        Work: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let admitted = self.admit().and_then(|room| Ok((room, origin(request.metadata())?)));
        let answer = match admitted {
            Err(refused) => Err(refused),
            Ok((room, origin)) => {
                let work = work(self.clone(), request.into_inner(), origin);
                let work = self.shared.calls.spawn(async {
                    let _room = room;
                    work.await
                });
                work.await.unwrap_or_else(|_| Err(Status::internal("the call ended unexpectedly; the logs say why")))
            }
        };
        answer.inspect_err(refusal::count).map(Response::new)
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        if self.shared.draining.is_cancelled() {
            return Err(refusal::draining());
        }
        self.shared.room.clone().try_acquire_owned().map_err(|_| refusal::overloaded())
    }

    async fn record(&self, request: Request<v1::RecordActionRequest>) -> Result<v1::RecordActionResponse, Status> {
        let room = self.admit()?;
        let origin = origin(request.metadata())?;
        let action = validate::record_action(request.into_inner(), self.arrival(origin))?;
        let event_id = action.head.id.to_string();
        let reply = self.shared.lanes.submit(action, Some(room)).await.map_err(|_| refusal::overloaded())?;
        let (_, duplicate) = refusal::settled(reply.await.unwrap_or(Err(Failure::Unavailable)))?;
        Ok(v1::RecordActionResponse { event_id, duplicate })
    }

    fn arrival(&self, origin: Origin) -> Arrival<'_> {
        Arrival { now: self.shared.clock.now(), origin, digests: &self.shared.digests }
    }

    /// Waits until the action is durable or refused. True where the same request was accepted before.
    async fn settle(&self, action: Action) -> Result<(Receipt, bool), Status> {
        refusal::settled(self.answer(action).await?)
    }

    async fn answer(&self, action: Action) -> Result<Result<Answer, Failure>, Status> {
        let reply = self.shared.lanes.submit(action, None).await.map_err(|_| refusal::overloaded())?;
        Ok(reply.await.unwrap_or(Err(Failure::Unavailable)))
    }
}

fn origin(metadata: &MetadataMap) -> Result<Origin, Status> {
    let (trace, trace_state) = trace_of(metadata);
    let correlation_id = metadata.get(CORRELATION_ID).filter(|value| !value.is_empty());
    let correlation_id = correlation_id.map(|value| validate::correlation_id(CORRELATION_ID, value.as_bytes()));
    Ok(Origin { trace, trace_state: trace_state.map(Into::into), correlation_id: correlation_id.transpose()? })
}

#[tonic::async_trait]
impl<S: Store> UserActions for Api<S> {
    async fn register_user(
        &self,
        request: Request<v1::RegisterUserRequest>,
    ) -> Result<Response<v1::RegisterUserResponse>, Status> {
        self.call(request, |api, request, origin| async move { api.register(request, origin).await }).await
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        self.call(request, |api, request, origin| async move { api.log_in(request, origin).await }).await
    }

    async fn change_password(
        &self,
        request: Request<v1::ChangePasswordRequest>,
    ) -> Result<Response<v1::ChangePasswordResponse>, Status> {
        self.call(request, |api, request, origin| async move { api.set_password(request, origin).await }).await
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        let work = |api: Self, request, origin| async move {
            let action = validate::logout(request, api.arrival(origin))?;
            let event_id = action.head.id.to_string();
            api.settle(action).await.map(|_| v1::LogoutResponse { event_id })
        };
        self.call(request, work).await
    }

    async fn report_ip_change(
        &self,
        request: Request<v1::ReportIpChangeRequest>,
    ) -> Result<Response<v1::ReportIpChangeResponse>, Status> {
        let work = |api: Self, request, origin| async move {
            let action = validate::report_ip_change(request, api.arrival(origin))?;
            let event_id = action.head.id.to_string();
            api.settle(action).await.map(|_| v1::ReportIpChangeResponse { event_id })
        };
        self.call(request, work).await
    }

    async fn reinstate_user(
        &self,
        request: Request<v1::ReinstateUserRequest>,
    ) -> Result<Response<v1::ReinstateUserResponse>, Status> {
        let work = |api: Self, request, origin| async move {
            let action = validate::reinstate_user(request, api.arrival(origin))?;
            let event_id = action.head.id.to_string();
            api.settle(action).await.map(|_| v1::ReinstateUserResponse { event_id })
        };
        self.call(request, work).await
    }

    async fn record_action(
        &self,
        request: Request<v1::RecordActionRequest>,
    ) -> Result<Response<v1::RecordActionResponse>, Status> {
        // in no task of its own: nothing has happened before the action is in its lane, and there it happens whoever waits
        let _in_work = self.shared.calls.token();
        self.record(request).await.inspect_err(refusal::count).map(Response::new)
    }

    async fn get_user(&self, request: Request<v1::GetUserRequest>) -> Result<Response<v1::GetUserResponse>, Status> {
        let work = |api: Self, request, _| async move {
            let user_id = validate::get_user(&request)?;
            let account = api.shared.store.account(&user_id).await.map_err(|error| refusal::store(&error))?;
            let (user, state) = account.ok_or_else(|| refusal::because(Reason::UserNotFound))?;
            Ok(v1::GetUserResponse {
                user_id: user.id.to_string(),
                email: user.email.as_str().to_owned(),
                status: v1::AccountStatus::from(user.status).into(),
                created_at: Some(user.created_at.into()),
                last_login_at: state.last_login_at.map(Timestamp::from),
                last_ip: state.last_ip.map(|seen| seen.ip.to_string()).unwrap_or_default(),
                failed_attempts: state.failures,
                status_epoch: user.status_epoch,
            })
        };
        self.call(request, work).await
    }

    type RecordActionsStream = stream::Answers;

    async fn record_actions(
        &self,
        request: Request<Streaming<v1::RecordActionRequest>>,
    ) -> Result<Response<stream::Answers>, Status> {
        let origin = origin(request.metadata()).inspect_err(refusal::count)?;
        Ok(Response::new(self.record_all(request.into_inner(), origin)?))
    }
}

impl From<AccountStatus> for v1::AccountStatus {
    fn from(status: AccountStatus) -> Self {
        match status {
            AccountStatus::Active => Self::Active,
            AccountStatus::Flagged => Self::Flagged,
            AccountStatus::PasswordResetRequired => Self::PasswordResetRequired,
            AccountStatus::Suspended => Self::Suspended,
        }
    }
}
