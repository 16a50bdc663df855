//! How far it is: a bar on a terminal, else a line now and then. To stderr, so that what is printed can be piped.
use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

const LINES: Duration = Duration::from_secs(5);
const STYLE: &str = "{msg} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left";

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever reads stderr: a bar if that is a terminal.
    Stderr,
    Nobody,
}

impl Audience {
    /// One line.
    pub(crate) fn tell(self, line: impl Display) {
        if self == Self::Stderr {
            // whoever read it may be gone
            let _ = writeln!(stderr(), "{line}");
        }
    }
}

/// The way from 0 to `total`.
pub(crate) struct Progress {
    what: &'static str,
    audience: Audience,
    bar: ProgressBar,
    start: Instant,
    next_line: Instant,
}

impl Progress {
    pub(crate) fn new(audience: Audience, what: &'static str, total: u64) -> Self {
        let on_terminal = audience == Audience::Stderr && stderr().is_terminal();
        let target = if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        let style = ProgressStyle::with_template(STYLE);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let audience = if on_terminal { Audience::Nobody } else { audience };
        let start = Instant::now();
        Self { what, audience, bar, start, next_line: start + LINES }
    }

    pub(crate) fn advance(&mut self, by: u64) {
        self.bar.inc(by);
        let now = Instant::now();
        if now >= self.next_line {
            self.next_line = now + LINES;
            self.audience.tell(self.line(now));
        }
    }

    fn line(&self, now: Instant) -> String {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let rate = done as f64 / (now - self.start).as_secs_f64().max(0.001);
        let left = total.saturating_sub(done) as f64 / rate.max(0.001);
        format!("{} {done} of {total}, {rate:.0}/s, about {left:.0} s left", self.what)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
