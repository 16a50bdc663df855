//! The actions that are sent, nearly encoded before the first of them is: the client shares its cores with what it
//! measures.
use bytes::BufMut;
use clap::ValueEnum;
use headwater_proto::{
    Timestamp,
    v1::{Payload, RecordActionRequest, RecordActionResponse, RecordActionsResponse},
};
use headwater_stream::{Clock as _, SystemClock};
use prost::{Message as _, encoding};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use uuid::{Uuid, fmt::Hyphenated};

/// How many of ten actions are of which type.
const MIX: [&str; 10] = [
    "user.logged_in",
    "user.logged_in",
    "user.logged_in",
    "user.logged_out",
    "user.logged_out",
    "user.ip_changed",
    "user.ip_changed",
    "user.login_failed",
    "user.password_changed",
    "user.created",
];
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
/// event_id: field 1, a string.
const EVENT_ID_TAG: u8 = 1 << 3 | 2;
const OCCURRED_AT_FIELD: u32 = 4;

/// What is sent: an event_id of its own, and for the rest an index into [`Actions`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action {
    user: u32,
    kind: usize,
}

/// Encoded but for their ids.
pub(crate) struct Actions {
    users: Vec<Box<[u8]>>,
    kinds: Vec<Box<[u8]>>,
    ids: Ids,
}

/// What a client makes its event_ids of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ids {
    /// UUIDv7: they grow with time, as those that the ingress makes.
    V7,
    /// UUIDv4: each is looked for in another place of the store's index.
    V4,
}

impl Actions {
    /// Each user has an address, one session and one browser.
    pub(crate) fn new(users: u32, ids: Ids) -> Self {
        let user = |index: u32| RecordActionRequest {
            user_id: format!("load-{index:07}"),
            payload: Some(Payload {
                email: format!("load-{index:07}@example.com"),
                ip: format!("198.18.{}.{}", index >> 8 & 0xff, index & 0xff),
                user_agent: USER_AGENT.to_owned(),
                session_id: Uuid::from_u64_pair(index.into(), 0x8000_0000_0000_0000).to_string(),
            }),
            ..RecordActionRequest::default()
        };
        let kind = |event_type: &str| RecordActionRequest {
            event_type: event_type.to_owned(),
            ..RecordActionRequest::default()
        };
        let encode = |request: RecordActionRequest| request.encode_to_vec().into_boxed_slice();
        Self {
            users: (0..users.max(1)).map(|index| encode(user(index))).collect(),
            kinds: MIX.into_iter().map(|event_type| encode(kind(event_type))).collect(),
            ids,
        }
    }

    pub(crate) fn draw(&self) -> Action {
        Action { user: fastrand::u32(..self.users.len() as u32), kind: fastrand::usize(..MIX.len()) }
    }

    /// It happens now. Protobuf messages may be joined: their fields come in any order.
    fn encode(&self, action: Action, out: &mut impl BufMut) {
        let now = SystemClock.now();
        let id = match self.ids {
            Ids::V7 => {
                let random = fastrand::u128(..).to_le_bytes();
                let random = random.first_chunk().expect("10 of 16 bytes");
                uuid::Builder::from_unix_timestamp_millis(now.as_millis().unsigned_abs(), random).into_uuid()
            }
            Ids::V4 => uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid(),
        };
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        out.put_slice(&[EVENT_ID_TAG, text.len() as u8]);
        out.put_slice(&text);
        encoding::message::encode(OCCURRED_AT_FIELD, &Timestamp::from(now), out);
        out.put_slice(&self.kinds[action.kind]);
        out.put_slice(&self.users[action.user as usize]);
    }
}

/// What an answer says of its action.
pub(crate) trait Accepted {
    fn accepted(&self) -> bool;
}

impl Accepted for RecordActionResponse {
    fn accepted(&self) -> bool {
        !self.duplicate
    }
}

impl Accepted for RecordActionsResponse {
    fn accepted(&self) -> bool {
        self.status.is_none() && !self.duplicate
    }
}

/// Writes actions, reads answers.
pub(crate) struct Wire<R> {
    actions: std::sync::Arc<Actions>,
    answer: std::marker::PhantomData<fn() -> R>,
}

impl<R> Wire<R> {
    pub(crate) fn new(actions: std::sync::Arc<Actions>) -> Self {
        Self { actions, answer: std::marker::PhantomData }
    }
}

impl<R: prost::Message + Default + 'static> Codec for Wire<R> {
    type Encode = Action;
    type Decode = R;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new(self.actions.clone())
    }

    fn decoder(&mut self) -> Self {
        Self::new(self.actions.clone())
    }
}

impl<R> Encoder for Wire<R> {
    type Item = Action;
    type Error = Status;

    fn encode(&mut self, action: Action, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.actions.encode(action, out);
        Ok(())
    }
}

impl<R: prost::Message + Default> Decoder for Wire<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        R::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_a_whole_request_with_an_id_of_its_own() {
        let actions = Actions::new(3, Ids::V7);
        let read = |action| {
            let mut bytes = Vec::new();
            actions.encode(action, &mut bytes);
            RecordActionRequest::decode(&bytes[..]).unwrap()
        };
        let action = Action { user: 2, kind: 5 };
        let (first, second) = (read(action), read(action));
        assert_eq!((first.user_id.as_str(), first.event_type.as_str()), ("load-0000002", "user.ip_changed"));
        assert_eq!(first.payload.as_ref().map(|payload| payload.ip.as_str()), Some("198.18.0.2"));
        assert!(first.occurred_at.is_some());
        assert_eq!(Uuid::try_parse(&first.event_id).map(|id| id.get_version_num()), Ok(7));
        assert_ne!(first.event_id, second.event_id);
    }
}
