//! The actions of one stream that wait for their answer, bounded, and paced where a rate is asked for.
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{Future as _, Stream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::action::{Action, Actions};
use crate::Span;

/// Between two looks at what is due, where there is a rate.
const TURN: Duration = Duration::from_millis(1);

/// Shared by the half that sends and the half that reads.
pub(crate) struct Window {
    size: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When each was sent, or due.
    waiting: VecDeque<Instant>,
    sender: Option<Waker>,
}

impl Window {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next answer has come; when its action was sent.
    pub(crate) fn answered(&self) -> Option<Instant> {
        let mut state = self.state();
        let sent = state.waiting.pop_front();
        // in a few large portions instead of one by one
        if state.waiting.len() <= self.size / 2
            && let Some(sender) = state.sender.take()
        {
            sender.wake();
        }
        sent
    }
}

/// Actions until the span's end.
pub(crate) struct Sending {
    window: Arc<Window>,
    actions: Arc<Actions>,
    span: Span,
    /// Time between two actions.
    pace: Option<Duration>,
    next_due: Instant,
    turn: Pin<Box<Sleep>>,
}

impl Sending {
    pub(crate) fn new(window: Arc<Window>, actions: Arc<Actions>, rate: Option<f64>, span: Span) -> Self {
        let pace = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let now = Instant::now();
        Self { window, actions, span, pace, next_due: now, turn: Box::pin(sleep_until(now)) }
    }
}

impl Stream for Sending {
    type Item = Action;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Action>> {
        let now = Instant::now();
        if now >= self.span.end {
            return Poll::Ready(None);
        }
        if let Some(pace) = self.pace {
            while self.next_due > Instant::now() {
                ready!(pin!(&mut self.turn).poll(context));
                let turn = Instant::now() + TURN;
                self.turn.as_mut().reset(turn);
            }
            self.window.state().waiting.push_back(self.next_due);
            self.next_due += pace;
            return Poll::Ready(Some(self.actions.draw()));
        }
        let mut state = self.window.state();
        if state.waiting.len() >= self.window.size {
            state.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.waiting.push_back(now);
        drop(state);
        Poll::Ready(Some(self.actions.draw()))
    }
}
