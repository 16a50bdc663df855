//! What holds of a platform in one process and of one in containers alike.
pub mod bad_input;
pub mod takeover;
