//! A small TCP proxy between the services and a part: it lets through, swallows everything, or cuts with a reset.
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::ReadHalf, tcp::WriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// Listens for as long as it lives, whatever is behind it.
pub(crate) struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    /// Nothing gets through, and nobody is told.
    hole: bool,
    /// How often everything was cut.
    cuts: u64,
}

impl Proxy {
    /// In front of `part`, which need not be there yet.
    pub(crate) async fn before(part: SocketAddr, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (state, seen) = watch::channel(State::default());
        let connections = Arc::<AtomicUsize>::default();
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(client, part, seen.clone()));
            }
        });
        Ok(Self { port, state, connections, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many clients have come so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn swallow(&self, hole: bool) {
        self.state.send_modify(|state| state.hole = hole);
    }

    /// Every open connection ends with a reset, on both sides.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn connection(mut client: TcpStream, part: SocketAddr, state: watch::Receiver<State>) {
    let mut cut = state.clone();
    let before = cut.borrow_and_update().cuts;
    // who meets a hole waits for it to close, as a lost SYN is sent again
    let mut open = state.clone();
    if open.wait_for(|state| !state.hole).await.is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(part).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let was_cut = tokio::select! {
        () = pump(from_client, to_server, state.clone()) => false,
        () = pump(from_server, to_client, state) => false,
        _ = cut.wait_for(|state| state.cuts > before) => true,
    };
    if was_cut {
        // closed with unsent data thrown away: a reset instead of an end
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
}

/// Until one of the two is gone.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 * 1_024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if state.wait_for(|state| !state.hole).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
