//! The platform as a library: started in this process, asked over its ports.
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use headwater_cli::{Platform, settings::Settings};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn settings(name: &str) -> Settings {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    Settings { notification_dir: folder, ..Settings::default() }.on_free_ports()
}

struct Asked<'a> {
    platform: &'a Platform,
    http: Client,
}

impl Asked<'_> {
    fn of(platform: &Platform) -> Asked<'_> {
        // a connection per request: one kept from before a stop would be answered by nobody
        let http = Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(10)).build().unwrap();
        Asked { platform, http }
    }

    async fn admin(&self, method: Method, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.platform.addresses().admin);
        let answer = self.http.request(method, url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn rpc(&self, port: std::net::SocketAddr, method: &str, request: Value) -> reqwest::Result<(u16, Value)> {
        let url = format!("http://{port}/headwater.v1.{method}");
        let answer = self.http.post(url).json(&request).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_stopped_and_started_and_its_store_outlives_it() {
    let platform = Platform::start(settings("instances")).await.unwrap();
    let asked = Asked::of(&platform);
    let ingress = platform.addresses().ingress;
    let user = json!({ "email": "ada@example.com", "password": "correct horse", "userId": "ada" });
    let (status, answer) = asked.rpc(ingress, "UserActions/RegisterUser", user).await.unwrap();
    assert_eq!(status, 200, "{answer}");

    let (status, stopped) = asked.admin(Method::POST, "/instances/ingress/1/stop").await;
    assert_eq!((status, stopped.as_str()), (200, r#"{"role":"ingress","instance":1,"running":false}"#));
    let refused = asked.rpc(ingress, "UserActions/GetUser", json!({ "userId": "ada" })).await;
    assert!(refused.is_err_and(|error| error.is_connect()), "a stopped ingress still listens");
    assert_eq!(asked.admin(Method::GET, "/readyz").await.0, 200, "what was stopped holds nobody back");

    assert_eq!(asked.admin(Method::POST, "/instances/ingress/1/start").await.0, 200);
    platform.readiness().all_ready().await;
    let (status, answer) = asked.rpc(ingress, "UserActions/GetUser", json!({ "userId": "ada" })).await.unwrap();
    assert_eq!((status, &answer["email"]), (200, &json!("ada@example.com")), "{answer}");

    for (method, path, expected) in [
        (Method::POST, "/instances/ingress/2/stop", 404),
        (Method::POST, "/instances/oracle/1/stop", 404),
        (Method::POST, "/instances/ingress/1/kill", 404),
        (Method::GET, "/instances/ingress/1/stop", 405),
        (Method::GET, "/healthz", 200),
        (Method::GET, "/digests/analytics", 200),
        (Method::GET, "/digests/fraud", 200),
        (Method::GET, "/digests/ingress", 404),
        (Method::POST, "/digests/fraud", 405),
    ] {
        let (status, answer) = asked.admin(method, path).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_platforms_run_beside_each_other_and_the_http_port_has_every_service() {
    let (one, two) = tokio::join!(Platform::start(settings("one")), Platform::start(settings("two")));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.bootstrap(), two.bootstrap());
    for platform in [&one, &two] {
        let asked = Asked::of(platform);
        for (method, request, expected) in [
            ("UserActions/GetUser", json!({ "userId": "nobody" }), 404),
            ("Analytics/GetDailyActiveUsers", json!({ "day": "2026-01-15" }), 200),
            ("Fraud/GetRiskProfile", json!({ "userId": "nobody" }), 404),
        ] {
            let (status, answer) = asked.rpc(platform.addresses().http, method, request).await.unwrap();
            assert_eq!(status, expected, "{method}: {answer}");
        }
        let (_, metrics) = asked.admin(Method::GET, "/metrics").await;
        for name in
            ["rpc_server_call_duration_bucket", "process_resident_memory_bytes", "headwater_consumer_partitions"]
        {
            assert!(metrics.contains(name), "no {name} in\n{metrics}");
        }
    }
    tokio::join!(one.stop(), two.stop());
}

/// Ports are bound before there is anything to be ready: whoever asks early waits for the answer, and it must be true.
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_has_said_it_is_ready_does_not_take_it_back_while_it_starts() {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let started = CancellationToken::new();
    let asking = {
        let started = started.clone();
        thread::spawn(move || {
            let mut answers = Vec::new();
            while !(started.is_cancelled() && answers.last() == Some(&true)) {
                let Ok(mut stream) = TcpStream::connect(admin) else { continue };
                let mut answer = String::new();
                let asked = stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n");
                if asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() {
                    answers.push(answer.starts_with("HTTP/1.0 200"));
                }
            }
            answers
        })
    };
    let platform = Platform::start(Settings { admin_port: admin.port(), ..settings("asked-early") }).await.unwrap();
    started.cancel();
    let answers = asking.join().unwrap();
    assert!(answers.is_sorted(), "ready first and then not: {answers:?}");
    platform.stop().await;
}
