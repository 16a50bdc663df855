//! A service whose answers show what the door did, on a real port.
use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use headwater_otel::Readiness;
use headwater_proto::v1::{
    user_actions_client::UserActionsClient,
    user_actions_server::{UserActions, UserActionsServer},
    *,
};
use headwater_rpc::{
    Error, MAX_MESSAGE_BYTES, Reason, ServerConfig, Services, Violations, refuse, refuse_for_now, serve, trace_of,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// `GetUser` does as its user_id says.
#[derive(Clone, Default)]
pub(crate) struct Api {
    /// "held" has arrived.
    pub(crate) arrived: Arc<Notify>,
    /// "held" may answer.
    pub(crate) released: Arc<Notify>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl UserActions for Api {
    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<GetUserResponse> {
        let (trace, _) = trace_of(request.metadata());
        let correlation = request.metadata().get("x-correlation-id").map(|v| v.to_str().unwrap().to_owned());
        let user_id = request.into_inner().user_id;
        match user_id.as_str() {
            "nobody" => return Err(refuse(Reason::UserNotFound, "user_id: no such user")),
            "too-fast" => return Err(refuse_for_now(Reason::RateLimited, "slow down", Duration::from_millis(1_500))),
            "bad" => {
                let mut violations = Violations::new();
                violations.add("user_id", Reason::InvalidField, "must be good");
                violations.add("context.ip", Reason::InvalidField, "must be an ip");
                violations.finish()?;
            }
            "held" => {
                self.arrived.notify_one();
                self.released.notified().await;
            }
            "for-ever" => std::future::pending().await,
            "panic" => panic!("as asked"),
            _ => {}
        }
        let mut answer = Response::new(GetUserResponse {
            user_id,
            email: correlation.unwrap_or_default(),
            last_ip: trace.to_string(),
            status_epoch: 7,
            ..Default::default()
        });
        answer.metadata_mut().insert("x-answered-by", "door".parse().unwrap());
        Ok(answer)
    }

    async fn record_action(&self, request: Request<RecordActionRequest>) -> Answer<RecordActionResponse> {
        Ok(Response::new(RecordActionResponse { event_id: request.into_inner().event_id, duplicate: false }))
    }

    type RecordActionsStream = Pin<Box<dyn Stream<Item = Result<RecordActionsResponse, Status>> + Send>>;

    async fn record_actions(
        &self,
        request: Request<Streaming<RecordActionRequest>>,
    ) -> Answer<Self::RecordActionsStream> {
        let answers = request.into_inner().map(|action| {
            action.map(|action| RecordActionsResponse { event_id: action.event_id, ..Default::default() })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn register_user(&self, _: Request<RegisterUserRequest>) -> Answer<RegisterUserResponse> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn login(&self, _: Request<LoginRequest>) -> Answer<LoginResponse> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn logout(&self, _: Request<LogoutRequest>) -> Answer<LogoutResponse> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn change_password(&self, _: Request<ChangePasswordRequest>) -> Answer<ChangePasswordResponse> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn report_ip_change(&self, _: Request<ReportIpChangeRequest>) -> Answer<ReportIpChangeResponse> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn reinstate_user(&self, _: Request<ReinstateUserRequest>) -> Answer<ReinstateUserResponse> {
        Err(Status::unimplemented("not in this test"))
    }
}

pub(crate) struct Running {
    pub(crate) api: Api,
    pub(crate) url: String,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (api, readiness, shutdown) = (Api::default(), Readiness::default(), CancellationToken::new());
        let server = UserActionsServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let services = Services::new()
            .grpc(server)
            .json("/headwater.v1.UserActions/GetUser", api.clone(), |api, request| async move {
                api.get_user(request).await
            })
            .json("/headwater.v1.UserActions/RecordAction", api.clone(), |api, request| async move {
                api.record_action(request).await
            });
        let served = tokio::spawn(serve(listener, services, config, readiness.clone(), shutdown.clone()));
        Self { api, url, readiness, shutdown, served }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn grpc(&self) -> UserActionsClient<Channel> {
        UserActionsClient::new(self.channel().await)
    }

    pub(crate) async fn get_user(&self, user_id: &str) -> Answer<GetUserResponse> {
        self.grpc().await.get_user(GetUserRequest { user_id: user_id.into() }).await
    }

    pub(crate) async fn post(&self, method: &str, body: impl Into<reqwest::Body>) -> (u16, serde_json::Value) {
        let url = format!("{}/headwater.v1.UserActions/{method}", self.url);
        let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

/// Fails with what was being waited for instead of hanging the test run.
pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("waited 10 s for {what}"))
}
