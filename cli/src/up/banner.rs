//! What `up` prints once everything is ready.
use super::{Addresses, Platform};
use crate::{settings::Settings, target::reachable};

pub(crate) fn render(platform: &Platform) -> String {
    text(platform.settings(), platform.addresses(), platform.bootstrap(), platform.is_embedded())
}

fn text(settings: &Settings, addresses: &Addresses, bootstrap: &str, embedded: bool) -> String {
    let Addresses { ingress, http, analytics, fraud, activity, activity_grpc, admin } = *addresses;
    let [ingress, http, analytics, fraud, activity, activity_grpc, admin] =
        [ingress, http, analytics, fraud, activity, activity_grpc, admin].map(|address| reachable(address).to_string());
    let folder = settings.notification_dir.display();
    let notifications = match settings.notification_webhook {
        Some(_) => "POST to HEADWATER_NOTIFICATION_WEBHOOK".to_owned(),
        None => format!("{folder}/notification-1.log, -2, -3"),
    };
    let traces = match settings.otel_exporter_otlp_endpoint {
        Some(_) => "OTEL_EXPORTER_OTLP_ENDPOINT",
        None => "off: OTEL_EXPORTER_OTLP_ENDPOINT is not set",
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
    let users = if settings.database_url.is_some() { "PostgreSQL: DATABASE_URL" } else { "SQLite, in memory" };
    let documents = if settings.mongodb_uri.is_some() { "MongoDB: MONGODB_URI" } else { "in memory" };
    let forgotten = forgotten(settings, embedded);
    format!(
        r#"
Headwater is up. {forgotten}.

  ingress        {ingress:<22} UserActions: gRPC and JSON
  analytics      {analytics:<22} Analytics: gRPC and JSON
  fraud          {fraud:<22} Fraud: gRPC and JSON
  activity       {activity:<22} what users do, by HTTP; {activity_grpc} by gRPC and JSON
  http           {http:<22} all of them: JSON (and gRPC)
  admin          {admin:<22} /metrics /healthz /readyz /instances
  kafka          {bootstrap:<22} {broker}
  users          {users}
  documents      {documents}
  notifications  {notifications}
  traces         {traces}
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

/// What is gone when the process is.
fn forgotten(settings: &Settings, embedded: bool) -> String {
    let kept = [
        (!embedded, "the log"),
        (settings.database_url.is_some(), "the users"),
        (settings.mongodb_uri.is_some(), "the documents"),
    ];
    let kept: Vec<&str> = kept.into_iter().filter_map(|(stays, what)| stays.then_some(what)).collect();
    let again = "the log is read from its start at the next: fraud then announces\nits verdicts again, under the same \
                 event ids, by which their readers know them. Notifications go on at the group's\ncommit";
    match kept[..] {
        [] => "Everything is forgotten at exit".to_owned(),
        ["the log", "the users", "the documents"] => "Nothing is forgotten at exit".to_owned(),
        ["the log", ..] if settings.mongodb_uri.is_none() => {
            format!("Everything but {} is forgotten at exit, and {again}", kept.join(" and "))
        }
        _ => format!("Everything but {} is forgotten at exit", kept.join(" and ")),
    }
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
        let addresses = Addresses {
            ingress: at(50051),
            http: at(8000),
            analytics: at(50052),
            fraud: at(50053),
            activity: at(3000),
            activity_grpc: at(50055),
            admin: at(9464),
        };
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
        let secret = || Some(crate::settings::Secret::from("scheme://ada:hunter2@db".to_owned()));
        #[rustfmt::skip]
        let table = [
            (true, false, false, "Everything is forgotten at exit."),
            (true, true, false, "Everything but the users is forgotten at exit."),
            (false, false, false, "Everything but the log is forgotten at exit, and the log is read from its start"),
            (false, true, false, "Everything but the log and the users is forgotten at exit, and the log is read"),
            (false, false, true, "Everything but the log and the documents is forgotten at exit."),
            (false, true, true, "Nothing is forgotten at exit."),
        ];
        for (embedded, postgres, mongodb, told) in table {
            let settings = Settings {
                database_url: secret().filter(|_| postgres),
                mongodb_uri: secret().filter(|_| mongodb),
                ..Settings::default()
            };
            let text = printed_with(&settings, "127.0.0.1", embedded);
            assert!(text.contains(told), "{told}\n{text}");
            assert_eq!(text.contains("users          PostgreSQL: DATABASE_URL"), postgres, "{text}");
            assert_eq!(text.contains("documents      MongoDB: MONGODB_URI"), mongodb, "{text}");
            assert_eq!(text.contains("5 MiB"), embedded, "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let with_kafka = printed("127.0.0.1", false);
        assert!(with_kafka.contains("under the same event ids") && with_kafka.contains("at the group's\ncommit."));
    }
}
