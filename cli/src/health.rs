//! `headwater health`: whether the process that runs with these settings is ready; a container asks itself so.
use std::{io::Write as _, net::SocketAddr, time::Duration};

use serde::Deserialize;

use crate::{Error, settings::Settings, target::reachable};

/// An answer that takes longer is none: whoever asks has a timeout of its own.
const ANSWER: Duration = Duration::from_secs(2);

/// What `/readyz` answers, in either state.
#[derive(Deserialize)]
struct Answer {
    waiting: Vec<Waiting>,
}

#[derive(Deserialize)]
struct Waiting {
    component: String,
    reason: String,
}

/// Exit code 0 where everything is ready, 1 where something is not and is named, 3 where nobody answers.
pub(crate) async fn run(settings: &Settings) -> Result<(), Error> {
    let url = format!("http://{}/readyz", reachable(SocketAddr::new(settings.host, settings.admin_port)));
    let unreachable = |source| Error::unreachable(format!("no answer from {url}; is it running?"), source);
    let client = reqwest::Client::builder().timeout(ANSWER).build().map_err(unreachable)?;
    let answer = client.get(&url).send().await.map_err(unreachable)?;
    let answer: Answer = answer.json().await.map_err(unreachable)?;
    if answer.waiting.is_empty() {
        // whoever reads it may be gone
        let _ = writeln!(std::io::stdout(), "ready");
        return Ok(());
    }
    let waiting = answer.waiting.iter().map(|one| format!("{}: {}", one.component, one.reason));
    Err(Error::Failed(format!("not ready: {}", waiting.collect::<Vec<_>>().join(", "))))
}
