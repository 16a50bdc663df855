//! Several processes of the ingress share PostgreSQL and the relay. One is killed.
use std::{
    collections::{BTreeMap, HashSet},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use headwater_proto::{
    EventId,
    topics::{self, USER_EVENTS},
    v1::{RecordActionRequest, user_actions_client::UserActionsClient},
};
use headwater_stream::{KafkaConfig, apply_topics, testing::read_topic};
use headwater_tests::{
    eventually,
    native::{self, Database},
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};
use tonic::{Code, transport::Channel};

const USERS: u32 = 24;
const EVENTS: u32 = 150;
const PATIENCE: Duration = Duration::from_secs(60);

/// `serve ingress` in a process of its own; killed when dropped.
struct Ingress {
    child: Child,
    address: String,
    admin: String,
}

impl Ingress {
    fn start(name: &str, database: &str, brokers: &str) -> Self {
        let [grpc, http, admin] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
        let [grpc_port, http_port, admin_port] = [&grpc, &http, &admin].map(port);
        drop((grpc, http, admin)); // for the process
        let child = Command::new(env!("CARGO_BIN_EXE_headwater-under-test"))
            .args(["serve", "ingress"])
            .envs([("DATABASE_URL", database), ("KAFKA_BROKERS", brokers), ("HEADWATER_INSTANCE", name)])
            .envs([("INGRESS_GRPC_PORT", &grpc_port), ("HTTP_PORT", &http_port), ("ADMIN_PORT", &admin_port)])
            .env("HEADWATER_GROUP_SUFFIX", format!("-{}", std::process::id()))
            .stdin(Stdio::null())
            .spawn()
            .expect("the ingress is spawned");
        let [address, admin] = [grpc_port, admin_port].map(|port| format!("http://127.0.0.1:{port}"));
        Self { child, address, admin }
    }

    async fn client(&self) -> UserActionsClient<Channel> {
        let ready = format!("{}/readyz", self.admin);
        eventually("an ingress that is ready", async || {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
        UserActionsClient::new(Channel::from_shared(self.address.clone()).unwrap().connect_lazy())
    }

    /// Without a last word.
    fn kill(&mut self) {
        self.child.kill().expect("it is killed"); // SIGKILL
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many shards each process publishes.
async fn shares(database: &Database) -> Option<Vec<i64>> {
    const SHARES: &str = "SELECT count(*) FROM outbox_shards WHERE expires_at > now() GROUP BY owner ORDER BY 1";
    database.numbers(SHARES).await
}

/// A user and an event of this run, also on a broker that has seen others.
fn name(user: u32) -> String {
    format!("user-{}-{user}", std::process::id())
}

fn id(user: u32, number: u32) -> String {
    EventId::from_bytes([0; 16]).derive(&format!("{} {number}", name(user))).to_string()
}

/// Sends a user's events in order, each until it is accepted, whoever answers.
async fn act(mut ingresses: Vec<UserActionsClient<Channel>>, user: u32) {
    for number in 0..EVENTS {
        let request = RecordActionRequest {
            event_id: id(user, number),
            event_type: "user.logged_in".into(),
            user_id: name(user),
            ..Default::default()
        };
        let since = Instant::now();
        let mut pause = interval(Duration::from_millis(20));
        loop {
            let mut call = tonic::Request::new(request.clone());
            call.set_timeout(Duration::from_secs(10));
            match ingresses[0].record_action(call).await.map_err(|status| status.code()) {
                Ok(_) => break,
                Err(Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::Internal) => {
                    ingresses.rotate_left(1);
                }
                Err(code) => panic!("refused: {code:?}"),
            }
            assert!(since.elapsed() < PATIENCE, "user-{user}: not accepted in {PATIENCE:?}");
            pause.tick().await;
        }
        if number % 7 == 0 {
            ingresses.rotate_left(1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_ingresses_is_killed_and_the_log_has_exactly_what_was_accepted_in_order() {
    let kafka = KafkaConfig::new(native::kafka());
    apply_topics(&kafka, topics::ALL).await.unwrap();
    let database = Database::create().await;
    let [mut one, two] = ["one", "two"].map(|name| Ingress::start(name, database.url(), &kafka.brokers));
    let clients = vec![one.client().await, two.client().await];
    eventually("even shares", async || shares(&database).await.filter(|shares| shares == &[6, 6])).await;

    let mut users = JoinSet::new();
    for user in 0..USERS {
        let mut clients = clients.clone();
        clients.rotate_left(user as usize % 2);
        users.spawn(act(clients, user));
    }
    eventually("a third of the load", async || {
        let accepted = database.numbers("SELECT count(*) FROM request_ids").await?;
        (accepted[0] >= i64::from(USERS * EVENTS / 3)).then_some(())
    })
    .await;
    one.kill();
    let killed = Instant::now();
    eventually("all shards with the other", async || shares(&database).await.filter(|shares| shares == &[12])).await;
    assert!(killed.elapsed() < Duration::from_secs(15), "shards moved only after {:?}", killed.elapsed());
    users.join_all().await;
    eventually("an empty outbox", async || {
        database.numbers("SELECT count(*) FROM outbox").await.filter(|rows| rows == &[0])
    })
    .await;

    let (mut log, mut seen) = (BTreeMap::<String, Vec<String>>::new(), HashSet::new());
    let ours: HashSet<String> = (0..USERS).map(name).collect();
    for record in read_topic(&kafka, USER_EVENTS.name).await.unwrap() {
        let id = String::from_utf8(record.header("ce_id").expect("an id").to_vec()).unwrap();
        if ours.contains(&record.key_text()) && seen.insert(id.clone()) {
            log.entry(record.key_text()).or_default().push(id);
        }
    }
    for user in 0..USERS {
        let expected: Vec<String> = (0..EVENTS).map(|number| id(user, number)).collect();
        let logged = &log[&name(user)];
        assert!(*logged == expected, "user-{user}: {} of {EVENTS} events, or not in order", logged.len());
    }
    database.wipe().await;
}
