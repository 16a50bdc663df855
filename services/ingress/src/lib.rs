//! The ingress: gRPC -> validate -> commit with outbox -> relay. An answer means that the event is committed.

mod account_status;
pub mod action;
mod config;
mod digest;
mod error;
pub mod fields;
mod grpc;
mod lanes;
pub mod outbox;
mod pack;
mod passwords;
pub mod users;
mod validate;

use std::sync::Arc;

use headwater_proto::v1::user_actions_server::{UserActions, UserActionsServer};
use headwater_rpc::{MAX_MESSAGE_BYTES, Services};

pub use config::Config;
pub use error::{Error, StoreError};
pub use grpc::Api;
pub use users::{SqliteStore, Store};

/// Adds `headwater.v1.UserActions` to what a port serves: over gRPC, and its unary RPCs as Connect/JSON.
pub fn mount<S: Store>(services: Services, api: Api<S>) -> Services {
    services
        .json("/headwater.v1.UserActions/RegisterUser", api.clone(), async |api, request| {
            api.register_user(request).await
        })
        .grpc(UserActionsServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES))
}
