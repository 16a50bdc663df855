use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Cancelled by the first Ctrl-C or SIGTERM. The second ends the process at once.
pub(crate) fn asked_to_stop() -> Result<CancellationToken, Error> {
    let listen =
        |kind| signal(kind).map_err(|source| Error::Io { what: "cannot listen for signals".to_owned(), source });
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let asked = CancellationToken::new();
    tokio::spawn({
        let asked = asked.clone();
        async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if asked.is_cancelled() {
                    std::process::exit(INTERRUPTED);
                }
                asked.cancel();
            }
        }
    });
    Ok(asked)
}
