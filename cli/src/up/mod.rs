//! `headwater up`: every service in this process.
mod admin;
mod announcement;
mod banner;
mod instances;
mod platform;
mod services;

use std::io::Write as _;

use tokio_util::sync::CancellationToken;

pub use crate::ports::Addresses;
pub use instances::{Change, Instances, Listed};
pub use platform::Platform;

pub(crate) use announcement::{Announced, announced};
pub(crate) use services::{groups, topics};

use crate::{Error, settings::Settings, signals};
use announcement::Announcement;

pub(crate) async fn run(settings: Settings) -> Result<(), Error> {
    let asked = signals::asked_to_stop()?;
    let platform = tokio::select! {
        platform = Platform::start(settings) => platform?,
        () = asked.cancelled() => return Ok(()),
    };
    let _announced = Announcement::write(&platform.target())?;
    // whoever reads it may be gone; the platform runs all the same
    let _ = std::io::stdout().write_all(banner::render(&platform).as_bytes());
    until(asked, platform).await
}

/// Runs until asked to stop or until an instance fails.
pub(crate) async fn until(asked: CancellationToken, mut platform: Platform) -> Result<(), Error> {
    let ended = tokio::select! {
        () = asked.cancelled() => Ok(()),
        error = platform.failed() => Err(error),
    };
    platform.stop().await;
    ended
}
