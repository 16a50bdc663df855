//! One project of compose: brought up from nothing on ports of its own, taken down so that nothing is left.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use headwater_cli::{
    Target,
    settings::{Secret, Settings, ports},
    up::Addresses,
};
use headwater_stream::KafkaConfig;
use headwater_tests::{Reached, native::token};
use serde_json::Value;

/// What compose.yaml publishes of the parts, as deploy/.env calls it; of the services it is every port that they have.
const PORTS_OF_PARTS: [&str; 6] =
    ["KAFKA_PORT", "POSTGRES_PORT", "MONGO_PORT", "REDIS_PORT", "JAEGER_PORT", "OTLP_GRPC_PORT"];
/// Inside a container.
const ADMIN: u16 = 9464;
const SERVICES: [&str; 5] = ["ingress", "analytics", "notification", "fraud", "app-service"];

pub(crate) struct Project {
    name: String,
    ports: BTreeMap<&'static str, u16>,
    /// Notification logs and journals.
    folder: PathBuf,
}

impl Project {
    /// From the images that are there, without the console. Returns when everything is healthy.
    pub(crate) async fn up() -> Self {
        let name = format!("headwater-test-{}", token());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(folder.join("notifications")).expect("a folder");
        let ports = free_ports();
        let project = Self { name, ports, folder };
        // written by the user of the containers
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(project.notifications(), everybody).expect("a folder for everybody");
        let up = project.run(&["up", "--detach", "--no-build", "--wait", "--wait-timeout", "240"]);
        assert!(up.status.success(), "the platform does not come up: {}", text(&up));
        project
    }

    /// Nothing of it is left: no container, volume or network.
    pub(crate) fn down(self) {
        self.compose(&["down", "--volumes", "--timeout", "30"]);
        let label = format!("label=com.docker.compose.project={}", self.name);
        for kind in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
            let left = docker(&[kind, &["--quiet", "--filter", &label]].concat());
            assert_eq!(left, "", "{kind:?} shows what `down --volumes` left");
        }
    }

    /// Panics with what compose said where it fails.
    pub(crate) fn compose(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "docker compose {arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The ids of a service's containers, whatever state they are in.
    pub(crate) fn containers(&self, service: &str) -> Vec<String> {
        self.compose(&["ps", "--all", "--quiet", service]).lines().map(str::to_owned).collect()
    }

    /// SIGKILL to the container's first process from outside, as the kernel would when memory is short: then its restart
    /// policy holds. After `docker kill` it does not: that counts as asked for.
    pub(crate) fn crash(&self, container: &str) {
        let state = state(container);
        let kill = format!("kill -9 {}", state["Pid"]);
        let image = docker(&["inspect", "--format", "{{.Config.Image}}", &self.containers("ingress")[0]]);
        docker(&[
            "run",
            "--rm",
            "--pid=host",
            "--user=0",
            "--entrypoint=bash",
            "--no-healthcheck",
            &image,
            "-c",
            &kill,
        ]);
    }

    /// How often its restart policy has started it.
    pub(crate) fn restarts(&self, container: &str) -> u64 {
        docker(&["inspect", "--format", "{{.RestartCount}}", container]).parse().expect("a count")
    }

    /// Every container that runs.
    pub(crate) fn is_healthy(&self) -> bool {
        let running = self.compose(&["ps", "--quiet"]);
        running.lines().all(|container| state(container)["Health"]["Status"] == "healthy")
    }

    pub(crate) fn kafka(&self) -> KafkaConfig {
        KafkaConfig::new(self.published("KAFKA_PORT").to_string())
    }

    pub(crate) fn reached(&self) -> Reached {
        Reached {
            addresses: self.addresses(),
            kafka: self.kafka(),
            admins: self.admins(),
            folder: self.notifications(),
            group_suffix: String::new(),
            token: token(),
            http: reqwest::Client::new(),
        }
    }

    /// As `simulate` and `verify` see it now: containers that were started anew may have other addresses.
    pub(crate) fn target(&self) -> Target {
        Target::in_parts(&self.settings()).expect("a broker is set")
    }

    fn settings(&self) -> Settings {
        let addresses = self.addresses();
        Settings {
            ingress_grpc_port: addresses.ingress.port(),
            http_port: addresses.http.port(),
            analytics_grpc_port: addresses.analytics.port(),
            fraud_grpc_port: addresses.fraud.port(),
            admin_port: addresses.admin.port(),
            admin_addresses: self.admins(),
            kafka_brokers: Some(self.kafka().brokers),
            mongodb_uri: Some(Secret::from(format!("mongodb://{}/headwater", self.published("MONGO_PORT")))),
            notification_dir: self.notifications(),
            ..Settings::default()
        }
    }

    pub(crate) fn journals(&self) -> PathBuf {
        self.folder.join("journals")
    }

    fn notifications(&self) -> PathBuf {
        self.folder.join("notifications")
    }

    fn published(&self, port: &str) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports[port])
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            ingress: self.published("INGRESS_GRPC_PORT"),
            http: self.published("HTTP_PORT"),
            analytics: self.published("ANALYTICS_GRPC_PORT"),
            fraud: self.published("FRAUD_GRPC_PORT"),
            activity: self.published("ACTIVITY_PORT"),
            activity_grpc: self.published("ACTIVITY_GRPC_PORT"),
            admin: self.published("ADMIN_PORT"),
        }
    }

    /// Of every container that runs a service: this machine is on their network.
    fn admins(&self) -> Vec<SocketAddr> {
        let address = |container: String| -> SocketAddr {
            let all = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
            let address: IpAddr = docker(&["inspect", "--format", all, &container]).parse().expect("an address");
            SocketAddr::new(address, ADMIN)
        };
        SERVICES.iter().flat_map(|service| self.containers(service)).map(address).collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose.yaml");
        let mut command = Command::new("docker");
        command.args(["compose", "--ansi=never", "--progress=quiet", "--project-name", &self.name, "--file"]);
        command.arg(file).args(arguments);
        command.envs(self.ports.iter().map(|(name, port)| (name, port.to_string())));
        command.env("HEADWATER_NOTIFICATIONS", self.notifications());
        command.env("COMPOSE_PROFILES", "").env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://jaeger:4317");
        command.output().expect("docker compose runs")
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", text(&self.run(&["ps", "--all"])));
            eprintln!("{}", text(&self.run(&["logs", "--no-color", "--tail", "15"])));
            self.run(&["down", "--volumes", "--timeout", "5"]);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn state(container: &str) -> Value {
    serde_json::from_str(&docker(&["inspect", "--format", "{{json .State}}", container])).expect("JSON")
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    assert!(output.status.success(), "docker {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Held until all are known, so that no two are the same.
fn free_ports() -> BTreeMap<&'static str, u16> {
    let names = ports().chain(PORTS_OF_PARTS);
    let held: Vec<_> =
        names.map(|name| (name, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))).collect();
    held.iter().map(|(name, port)| (*name, port.local_addr().expect("its address").port())).collect()
}
