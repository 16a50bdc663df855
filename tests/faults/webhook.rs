//! Somebody who is told by webhook, now and then slowly: what arrives is written down as the file channel does.
use std::{
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{supervisor::free_port, wait::lasting};

/// Of every answer while it is slow; a delivery that takes 5 s is given up.
const SLOW: Duration = Duration::from_millis(1_500);

pub(crate) struct Webhook {
    port: u16,
    receiver: Arc<Receiver>,
    task: JoinHandle<()>,
}

struct Receiver {
    log: Mutex<File>,
    slow: AtomicBool,
}

impl Webhook {
    /// Writes to a log in this folder.
    pub(crate) async fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let log = Mutex::new(File::create(folder.join("notification-webhook.log"))?);
        let receiver = Arc::new(Receiver { log, slow: AtomicBool::new(false) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await?;
        let port = listener.local_addr()?.port();
        let routes = Router::new().route("/", post(receive)).with_state(receiver.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the webhook's receiver ended: {error}");
            }
        });
        Ok(Self { port, receiver, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn slow(&self, slow: bool) {
        self.receiver.slow.store(slow, Ordering::Relaxed);
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, letter: Bytes) -> StatusCode {
    if receiver.slow.load(Ordering::Relaxed) {
        lasting(SLOW).await;
    }
    let line = [&letter[..], b"\n"].concat();
    match receiver.log.lock().expect("no writer panics").write_all(&line) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
