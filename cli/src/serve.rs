//! `headwater serve <role>...`: these services, against the configured parts.
use crate::{Error, Platform, Role, roles, settings::Settings, signals, up};

/// What the document of a service says where nothing is set.
const DOCUMENTED_BROKERS: &str = "localhost:9092";

pub(crate) async fn run(mut settings: Settings, mut roles: Vec<Role>) -> Result<(), Error> {
    roles.sort_unstable();
    roles.dedup();
    if !Role::documented(&roles).is_empty() {
        settings.kafka_brokers.get_or_insert_with(|| DOCUMENTED_BROKERS.to_owned());
    }
    roles::require(&roles, &settings)?;
    let asked = signals::asked_to_stop()?;
    let platform = tokio::select! {
        platform = Platform::serve(settings, &roles) => platform?,
        () = asked.cancelled() => return Ok(()),
    };
    up::until(asked, platform).await
}
