//! `headwater serve <role>...`: these services, against the configured parts.
use crate::{Error, Platform, Role, roles, settings::Settings, signals, up};

pub(crate) async fn run(settings: Settings, mut roles: Vec<Role>) -> Result<(), Error> {
    roles.sort_unstable();
    roles.dedup();
    roles::require(&roles, &settings)?;
    let asked = signals::asked_to_stop()?;
    let platform = tokio::select! {
        platform = Platform::serve(settings, &roles) => platform?,
        () = asked.cancelled() => return Ok(()),
    };
    up::until(asked, platform).await
}
