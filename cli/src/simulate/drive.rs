//! Sends the plan through the public API: recorded actions on a few streams, accounts by unary calls.
//!
//! Order is the point. All actions of a user travel on one stream, in their order; when a stream breaks, everything it
//! has not answered is sent again, in order. The ingress knows the ids, so what it had accepted is answered as a
//! duplicate and every user's accepted actions stay in sequence.
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use headwater_proto::{
    Millis,
    v1::{
        ActionContext, ChangePasswordRequest, LoginRequest, LogoutRequest, Payload, RecordActionRequest,
        RecordActionsResponse, RegisterUserRequest, ReportIpChangeRequest, user_actions_client::UserActionsClient,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use super::{
    journal::Outcome,
    pace::Pace,
    plan::{Action, Call, Repeat},
};
use crate::{Error, Target};

const STREAMS: usize = 8;
/// An action that is sent twice comes again after this many others of its stream.
const REPEAT_AFTER: usize = 50;
const ACCOUNTS_AT_ONCE: usize = 8;
/// For an ingress that is away, without one answer.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);
/// For the rest of a stream that has failed: what it still held must have ended before it is sent anew.
const DRAIN: Duration = Duration::from_secs(15);

/// What came of one sending of one action.
pub(crate) struct Answer {
    pub(crate) index: usize,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
}

/// What all sendings share.
#[derive(Clone)]
struct Driver {
    client: UserActionsClient<Channel>,
    ingress: SocketAddr,
    actions: Arc<Vec<Action>>,
    pace: Arc<Pace>,
    answers: mpsc::Sender<Answer>,
}

/// Sends everything but the straight repeats; each answer goes to `answers` as it comes. An error means that the
/// ingress was away for too long.
pub(crate) async fn drive(
    ingress: SocketAddr,
    actions: Arc<Vec<Action>>,
    pace: Pace,
    answers: mpsc::Sender<Answer>,
) -> Result<(), Error> {
    let client = UserActionsClient::new(Target::channel(ingress)?);
    let mut lanes = vec![Vec::new(); STREAMS];
    let mut accounts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let with_account: HashSet<&str> =
        actions.iter().filter(|action| action.is_account_call()).map(|action| action.user_id.as_str()).collect();
    for (index, action) in actions.iter().enumerate() {
        if with_account.contains(action.user_id.as_str()) {
            accounts.entry(&action.user_id).or_default().push(index);
        } else {
            lanes[lane(&action.user_id)].push(index);
        }
    }
    let accounts: Vec<Vec<usize>> = accounts.into_values().collect();
    let driver = Driver { client, ingress, actions: actions.clone(), pace: Arc::new(pace), answers };
    let streams: Vec<_> =
        lanes.into_iter().map(|lane| tokio::spawn(driver.clone().lane(script(lane, &actions)))).collect();
    let called = stream::iter(accounts).map(|calls| driver.clone().account(calls)).buffer_unordered(ACCOUNTS_AT_ONCE);
    let called: Vec<Result<(), Error>> = called.collect().await;
    for stream in streams {
        stream.await.map_err(|error| Error::service("a stream of simulate", error))??;
    }
    called.into_iter().collect()
}

fn lane(user_id: &str) -> usize {
    user_id.bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % 65_521) % STREAMS
}

/// The lane's sendings in order: each action, and its repeat some way behind it.
fn script(lane: Vec<usize>, actions: &[Action]) -> Vec<(usize, bool)> {
    let mut script = Vec::with_capacity(lane.len());
    let mut repeats = VecDeque::new();
    for (place, index) in lane.iter().copied().enumerate() {
        script.push((index, false));
        if actions[index].repeat == Some(Repeat::Ingress) {
            repeats.push_back((place + REPEAT_AFTER, index));
        }
        while repeats.front().is_some_and(|(due, _)| *due <= place) {
            script.extend(repeats.pop_front().map(|(_, index)| (index, true)));
        }
    }
    script.extend(repeats.into_iter().map(|(_, index)| (index, true)));
    script
}

impl Driver {
    /// A lane's whole script, over as many streams as it takes.
    async fn lane(mut self, script: Vec<(usize, bool)>) -> Result<(), Error> {
        let script = Arc::new(script);
        let mut answered = 0;
        let mut last_answer = Instant::now();
        while answered < script.len() {
            let before = answered;
            let Err(status) = self.one_stream(&script, &mut answered).await else { continue };
            if answered > before {
                last_answer = Instant::now();
            }
            if last_answer.elapsed() > PATIENCE {
                return Err(self.away(status));
            }
            sleep_until(Instant::now() + PAUSE).await;
        }
        Ok(())
    }

    fn away(&self, status: Status) -> Error {
        Error::unreachable(format!("no answer from the ingress at {} for {PATIENCE:?}", self.ingress), status)
    }

    /// One stream from the first unanswered sending on, until all is answered or it breaks.
    async fn one_stream(&mut self, script: &Arc<Vec<(usize, bool)>>, answered: &mut usize) -> Result<(), Status> {
        let sent = Arc::new(AtomicUsize::new(*answered));
        let status = match self.exchange(script, answered, &sent).await {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        for &(index, repeat) in &script[*answered..sent.load(Ordering::Relaxed)] {
            if !repeat {
                self.told(index, Outcome::Unknown, status.code().to_string()).await;
            }
        }
        Err(status)
    }

    /// `sent` is kept at the number of sendings that have left.
    async fn exchange(
        &mut self,
        script: &Arc<Vec<(usize, bool)>>,
        answered: &mut usize,
        sent: &Arc<AtomicUsize>,
    ) -> Result<(), Status> {
        let from = *answered;
        let requests = {
            let (actions, pace, script, sent) = (self.actions.clone(), self.pace.clone(), script.clone(), sent.clone());
            stream::iter(from..script.len()).then(move |place| {
                let (request, pace, sent) = (record(&actions[script[place].0]), pace.clone(), sent.clone());
                async move {
                    pace.turn().await;
                    sent.store(place + 1, Ordering::Relaxed);
                    request
                }
            })
        };
        let mut stream = self.client.record_actions(requests).await?.into_inner();
        while let Some(answer) = stream.message().await? {
            if answer.index != (*answered - from) as i64 {
                return Err(Status::internal(format!("answer {} came out of order", answer.index)));
            }
            let Some(&(index, repeat)) = script.get(*answered) else {
                return Err(Status::internal("more answers than requests"));
            };
            let (outcome, reason) = match outcome(&answer, repeat) {
                Ok(outcome) => outcome,
                Err(status) => {
                    drain(stream).await;
                    return Err(status);
                }
            };
            *answered += 1;
            self.told(index, outcome, reason).await;
        }
        if *answered < script.len() {
            return Err(Status::unavailable("the ingress ended the stream"));
        }
        Ok(())
    }

    async fn told(&self, index: usize, outcome: Outcome, reason: String) {
        // nobody listens any more only where the whole run ends
        let _ = self.answers.send(Answer { index, outcome, reason }).await;
    }

    /// One account's calls, one after the other.
    async fn account(mut self, calls: Vec<usize>) -> Result<(), Error> {
        let actions = self.actions.clone();
        let mut changes = 0;
        for index in calls {
            let action = &actions[index];
            let sendings = 1 + usize::from(action.repeat == Some(Repeat::Ingress));
            for sending in 0..sendings {
                self.pace.turn().await;
                let (outcome, reason) = match self.call_until_answered(index, sending, changes).await? {
                    Some(status) => (Outcome::Rejected, status.to_string()),
                    None if sending > 0 => (Outcome::Repeated, String::new()),
                    None => (Outcome::Acknowledged, String::new()),
                };
                self.told(index, outcome, reason).await;
            }
            changes += usize::from(action.call == Call::ChangePassword);
        }
        Ok(())
    }

    /// `None` when answered as the plan expects, else the refusal. The event id makes repeating safe.
    async fn call_until_answered(
        &mut self,
        index: usize,
        sending: usize,
        changes: usize,
    ) -> Result<Option<Status>, Error> {
        let start = Instant::now();
        loop {
            let refused = match call(&mut self.client, &self.actions[index], changes, None).await {
                Ok(()) => return Ok(None),
                Err(refused) if !is_open(&refused) => return Ok(Some(refused)),
                Err(refused) => refused,
            };
            if sending == 0 {
                self.told(index, Outcome::Unknown, refused.code().to_string()).await;
            }
            if start.elapsed() > PATIENCE {
                return Err(self.away(refused));
            }
            sleep_until(Instant::now() + PAUSE).await;
        }
    }
}

/// `Err` where the action must be sent again: its fate is unknown, or it was refused for now.
fn outcome(answer: &RecordActionsResponse, repeat: bool) -> Result<(Outcome, String), Status> {
    match &answer.status {
        Some(status) if is_passing(Code::from_i32(status.code)) => {
            Err(Status::new(Code::from_i32(status.code), status.message.clone()))
        }
        Some(status) => Ok((Outcome::Rejected, status.message.clone())),
        None if repeat && !answer.duplicate => {
            Ok((Outcome::Rejected, "its repeat was not answered as a duplicate".to_owned()))
        }
        None if repeat => Ok((Outcome::Repeated, String::new())),
        None => Ok((Outcome::Acknowledged, String::new())),
    }
}

/// The ingress reads no more of a stream in which something failed, and ends it when all it has read is settled.
async fn drain(mut stream: Streaming<RecordActionsResponse>) {
    let rest = async { while let Ok(Some(_)) = stream.message().await {} };
    // whoever takes longer is left alone: the ids tell what was accepted
    let _ = timeout(DRAIN, rest).await;
}

/// Whether nobody knows what became of a call that ended so, or it may come again: it was refused for now, or its connection
/// ended first, which tonic may call INTERNAL (a GOAWAY between two calls). What a server says has no source here.
pub fn is_open(status: &Status) -> bool {
    is_passing(status.code()) || status.source().is_some_and(|source| source.is::<tonic::transport::Error>())
}

fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}

/// One call of the plan; `changes`: how often the account's password was changed before it. Ok where it was answered as
/// the plan expects. With a deadline it may end anywhere on its way.
pub async fn call(
    client: &mut UserActionsClient<Channel>,
    action: &Action,
    changes: usize,
    deadline: Option<Duration>,
) -> Result<(), Status> {
    let answered = send(client, action, changes, deadline).await;
    match (action.call, answered) {
        (Call::LoginWrong, Ok(())) => Err(Status::failed_precondition("a wrong password was let in")),
        (Call::LoginWrong, Err(refused)) if refused.code() == Code::Unauthenticated => Ok(()),
        (_, answered) => answered,
    }
}

async fn send(
    client: &mut UserActionsClient<Channel>,
    action: &Action,
    changes: usize,
    deadline: Option<Duration>,
) -> Result<(), Status> {
    fn within<T>(deadline: Option<Duration>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    }
    let (user_id, event_id) = (action.user_id.clone(), action.event_id.clone());
    let occurred_at = Some(Millis::from_millis(action.occurred_at).into());
    let context = Some(ActionContext {
        ip: action.ip.clone(),
        session_id: action.session_id.clone(),
        ..ActionContext::default()
    });
    match action.call {
        Call::RegisterUser => {
            let (email, password) = (action.email.clone(), action.password(changes));
            let request = RegisterUserRequest { email, password, user_id, event_id, occurred_at, context };
            client.register_user(within(deadline, request)).await.map(drop)
        }
        Call::Login | Call::LoginWrong => {
            let right = action.call == Call::Login;
            let password = if right { action.password(changes) } else { "not the password".to_owned() };
            let request = LoginRequest { password, user_id, event_id, occurred_at, context, ..LoginRequest::default() };
            client.login(within(deadline, request)).await.map(drop)
        }
        Call::Logout => {
            let session_id = action.session_id.clone();
            let request = LogoutRequest { user_id, session_id, event_id, occurred_at, context };
            client.logout(within(deadline, request)).await.map(drop)
        }
        Call::ChangePassword => {
            let (old_password, new_password) = (action.password(changes), action.password(changes + 1));
            let request = ChangePasswordRequest { user_id, old_password, new_password, event_id, occurred_at, context };
            client.change_password(within(deadline, request)).await.map(drop)
        }
        Call::ReportIpChange => {
            let ip = action.ip.clone();
            let request = ReportIpChangeRequest { user_id, ip, event_id, occurred_at, context };
            client.report_ip_change(within(deadline, request)).await.map(drop)
        }
        Call::RecordAction => client.record_action(within(deadline, record(action))).await.map(drop),
    }
}

fn record(action: &Action) -> RecordActionRequest {
    RecordActionRequest {
        event_id: action.event_id.clone(),
        event_type: action.event_type.clone(),
        user_id: action.user_id.clone(),
        occurred_at: Some(Millis::from_millis(action.occurred_at).into()),
        payload: Some(Payload {
            email: action.email.clone(),
            ip: action.ip.clone(),
            session_id: action.session_id.clone(),
            ..Payload::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_a_server_has_refused_for_good_is_settled() {
        let lost = Channel::from_static("http://127.0.0.1:1").connect().await.unwrap_err();
        let mut goaway = Status::internal("h2 protocol error: http2 error");
        assert!(!is_open(&goaway), "said by a server");
        goaway.set_source(Arc::new(lost));
        assert!(is_open(&goaway));
        assert!(is_open(&Status::unavailable("the outbox is full")));
        assert!(!is_open(&Status::failed_precondition("must reset the password")));
    }
}
