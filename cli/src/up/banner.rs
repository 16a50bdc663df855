//! What `up` prints once everything is ready.
use super::{Addresses, Platform};
use crate::{settings::Settings, target::reachable};

pub(crate) fn render(platform: &Platform) -> String {
    text(platform.settings(), platform.addresses(), platform.bootstrap(), platform.is_embedded())
}

fn text(settings: &Settings, addresses: &Addresses, bootstrap: &str, embedded: bool) -> String {
    let Addresses { ingress, http, analytics, fraud, admin } = *addresses;
    let [ingress, http, analytics, fraud, admin] =
        [ingress, http, analytics, fraud, admin].map(|address| reachable(address).to_string());
    let folder = settings.notification_dir.display();
    let notifications = match settings.notification_webhook {
        Some(_) => "POST to HEADWATER_NOTIFICATION_WEBHOOK".to_owned(),
        None => format!("{folder}/notification-1.log, -2, -3"),
    };
    let broker = if embedded { "embedded, in memory" } else { "KAFKA_BROKERS" };
    let retention = if embedded {
        format!(
            "\nThe embedded broker keeps the newest 5 MiB or 100,000 batches of each partition, about 200,000 records in \
             all.\nTo look into it: kcat -b {bootstrap} -t user.events -C -o beginning\n(with a group, use your own group \
             id with kcat: a stranger in one of Headwater's groups breaks it).\n"
        )
    } else {
        String::new()
    };
    let postgres = settings.database_url.is_some();
    let users = if postgres { "PostgreSQL: DATABASE_URL" } else { "SQLite, in memory" };
    let again = "the log is read from its start at the next: fraud then announces\nits verdicts again, under the same \
                 event ids, by which their readers know them. Notifications go on at the group's\ncommit";
    let forgotten = match (embedded, postgres) {
        (true, false) => "Everything is forgotten at exit".to_owned(),
        (true, true) => "Everything but the users is forgotten at exit, the log too".to_owned(),
        (false, false) => format!("Everything but Kafka is forgotten at exit, and {again}"),
        (false, true) => format!("Kafka and the users stay; documents are forgotten at exit, and {again}"),
    };
    format!(
        r#"
Headwater is up. {forgotten}.

  ingress        {ingress:<22} UserActions: gRPC and JSON
  analytics      {analytics:<22} Analytics: gRPC and JSON
  fraud          {fraud:<22} Fraud: gRPC and JSON
  http           {http:<22} all of them: JSON (and gRPC)
  admin          {admin:<22} /metrics /healthz /readyz /instances
  kafka          {bootstrap:<22} {broker}
  users          {users}
  documents      in memory
  notifications  {notifications}
{retention}
Three things to try:

  curl -s http://{http}/headwater.v1.UserActions/RegisterUser -H 'content-type: application/json' \
    -d '{{"email":"ada@example.com","password":"correct horse","context":{{"ip":"198.51.100.7"}}}}'

  grpcurl -plaintext -d '{{"email":"ada@example.com","password":"correct horse","context":{{"ip":"198.51.100.7"}}}}' \
    {ingress} headwater.v1.UserActions/Login

  curl -s http://{http}/headwater.v1.Analytics/GetDailyActiveUsers -H 'content-type: application/json' \
    -d '{{"day":"'$(date -u +%F)'"}}'

Ctrl-C stops it.

"#
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn printed(host: &str, embedded: bool) -> String {
        printed_with(&Settings::default(), host, embedded)
    }

    fn printed_with(settings: &Settings, host: &str, embedded: bool) -> String {
        let at = |port| SocketAddr::new(host.parse().unwrap(), port);
        let addresses =
            Addresses { ingress: at(50051), http: at(8000), analytics: at(50052), fraud: at(50053), admin: at(9464) };
        text(settings, &addresses, "127.0.0.1:4242", embedded)
    }

    #[test]
    fn commands_are_for_the_ports_that_are_really_open() {
        let text = printed("0.0.0.0", true);
        assert!(text.contains("curl -s http://127.0.0.1:8000/headwater.v1.UserActions/RegisterUser"), "{text}");
        assert!(text.contains("127.0.0.1:50051 headwater.v1.UserActions/Login"), "{text}");
        assert!(text.contains("use your own group id with kcat"), "{text}");
    }

    #[test]
    fn what_is_forgotten_is_said_as_it_is() {
        assert!(printed("127.0.0.1", true).contains("Everything is forgotten at exit."));
        let with_kafka = printed("127.0.0.1", false);
        assert!(with_kafka.contains("Everything but Kafka is forgotten at exit, and the log is read"));
        assert!(with_kafka.contains("under the same event ids") && with_kafka.contains("at the group's\ncommit."));
        assert!(!with_kafka.contains("5 MiB"));
    }

    #[test]
    fn what_is_really_in_postgres_is_said_and_the_secret_is_not() {
        let url = Some(crate::settings::Secret::from("postgres://ada:hunter2@db".to_owned()));
        let settings = Settings { database_url: url, ..Settings::default() };
        let text = printed_with(&settings, "127.0.0.1", false);
        assert!(text.contains("users          PostgreSQL: DATABASE_URL"), "{text}");
        assert!(text.contains("Kafka and the users stay"), "{text}");
        assert!(!text.contains("hunter2"));
        assert!(printed_with(&settings, "127.0.0.1", true).contains("Everything but the users is forgotten at exit"));
    }
}
