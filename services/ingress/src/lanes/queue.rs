//! The way into a lane.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use headwater_proto::topics::USER_EVENTS;
use headwater_stream::partition_for;
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{
        self,
        error::{SendTimeoutError, TrySendError},
    },
    oneshot,
};

use crate::action::{Action, Answer};

/// Why an action came to nothing in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The store failed, or what came of the commit is not known.
    Unavailable,
    /// The store refuses a value of this action.
    Data,
}

/// Resolves when the action's transaction has ended. Dropping it changes nothing: the action is decided all the same.
pub(crate) type Reply = oneshot::Receiver<Result<Answer, Failure>>;

/// How long an action by itself waits for room: well within a call's deadline, so that its answer is not late.
const PATIENCE: Duration = Duration::from_secs(1);

/// The lane's queue was full for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

pub(super) struct Queued {
    pub(super) action: Action,
    /// The lane's breaks when its sender last looked.
    pub(super) breaks: u64,
    pub(super) caller: Caller,
}

/// Who waits for what comes of an action, or has gone.
pub(super) struct Caller {
    reply: oneshot::Sender<Result<Answer, Failure>>,
    /// A unary call counts as in work until its action is settled, even where nobody waits any more.
    _room: Option<OwnedSemaphorePermit>,
}

impl Caller {
    pub(super) fn answer(self, answer: Result<Answer, Failure>) {
        let _ = self.reply.send(answer); // who no longer waits for an answer has lost only the answer
    }
}

pub(super) struct Queue {
    pub(super) queued: mpsc::Receiver<Queued>,
    pub(super) breaks: Arc<AtomicU64>,
}

/// The entrances of all lanes.
#[derive(Clone)]
pub(crate) struct Lanes(Arc<[Entrance]>);

struct Entrance {
    sender: mpsc::Sender<Queued>,
    breaks: Arc<AtomicU64>,
}

impl Lanes {
    /// `lanes` and `capacity` (actions that wait in one lane) are at least 1.
    pub(super) fn new(lanes: usize, capacity: usize) -> (Self, Vec<Queue>) {
        let lane = |_| {
            let (sender, queued) = mpsc::channel(capacity);
            let breaks = Arc::new(AtomicU64::new(0));
            (Entrance { sender, breaks: breaks.clone() }, Queue { queued, breaks })
        };
        let (entrances, queues): (Vec<_>, Vec<_>) = (0..lanes).map(lane).unzip();
        (Self(entrances.into()), queues)
    }

    /// For one action by itself; in the queue when this returns. Waits a little for room, in line with the streams:
    /// they wait as long as it takes, and where a few are busy a lane is full most of the time.
    pub(crate) async fn submit(&self, action: Action, room: Option<OwnedSemaphorePermit>) -> Result<Reply, Full> {
        let lane = &self.0[self.lane(&action)];
        let (reply, answer) = oneshot::channel();
        let breaks = lane.breaks.load(Ordering::Acquire);
        // without a timer where there is room; who waits for some is first all the same
        let queued = match lane.sender.try_send(Queued { action, breaks, caller: Caller { reply, _room: room } }) {
            Err(TrySendError::Full(queued)) => queued,
            // where the lane has ended the reply has too
            Ok(()) | Err(TrySendError::Closed(_)) => return Ok(answer),
        };
        match lane.sender.send_timeout(queued, PATIENCE).await {
            Err(SendTimeoutError::Timeout(_)) => Err(Full),
            Ok(()) | Err(SendTimeoutError::Closed(_)) => Ok(answer),
        }
    }

    /// For actions that follow one another: see [`View::submit`].
    pub(crate) fn view(&self) -> View {
        let breaks = self.0.iter().map(|lane| lane.breaks.load(Ordering::Acquire)).collect();
        View { lanes: self.clone(), breaks }
    }

    /// lane = shard % lanes, where the shard is the user's partition: a stuck shard never spreads.
    fn lane(&self, action: &Action) -> usize {
        partition_for(action.key().as_bytes(), USER_EVENTS.partitions) as usize % self.0.len()
    }
}

/// The lanes as one stream of actions saw them at its beginning.
pub(crate) struct View {
    lanes: Lanes,
    breaks: Vec<u64>,
}

impl View {
    /// Waits for room. Once a lane has broken, everything this view sends it fails: what was sent ahead of the answer
    /// to a failed action must not be accepted without it.
    pub(crate) async fn submit(&self, action: Action) -> Reply {
        let index = self.lanes.lane(&action);
        let (reply, answer) = oneshot::channel();
        let queued = Queued { action, breaks: self.breaks[index], caller: Caller { reply, _room: None } };
        // where the lane has ended the reply has too
        let _ = self.lanes.0[index].sender.send(queued).await;
        answer
    }
}
