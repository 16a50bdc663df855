//! How many events a second one instance turns into documents in memory:
//! `cargo bench -p headwater-analytics --bench batches`.
mod traffic;

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use headwater_analytics::{Config, Handler, MemoryStore, Timeout};
use headwater_stream::BatchHandler as _;

use traffic::{BATCH, batch};

const EVENTS: u64 = 1_000_000;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = MemoryStore::new();
    let timeout = Timeout::new(Config::default().session_timeout).expect("the default is valid");
    let mut handler = Handler::new(store, timeout);
    let mut busy = Duration::ZERO;
    for first in (0..EVENTS).step_by(BATCH as usize) {
        let batch = batch(first);
        let start = Instant::now();
        runtime.block_on(handler.apply(&batch)).expect("memory is always there");
        busy += start.elapsed();
    }
    let rate = EVENTS as f64 / busy.as_secs_f64();
    writeln!(io::stdout(), "{EVENTS} events in {busy:.2?}: {rate:.0} events/s")
}
