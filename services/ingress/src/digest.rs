//! When two requests are the same: their keyed digests are equal.
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use crate::action::Digest;

/// Makes digests with the store's key, so that stored ones say nothing about requests to who reads the table.
#[derive(Clone)]
pub(crate) struct Digests(Hmac<Sha256>);

/// Belongs to no request: for ids that were derived here.
pub(crate) const NO_REQUEST: Digest = [0; 32];

impl Digests {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// `request` comes without its secrets and without its event_id.
    pub(crate) fn of(&self, method: &str, request: &impl Message) -> Digest {
        let mut mac = self.0.clone();
        mac.update(method.as_bytes());
        mac.update(&[0]);
        mac.update(&request.encode_to_vec());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::v1;

    #[test]
    fn a_digest_tells_methods_requests_and_keys_apart() {
        let request = v1::LogoutRequest { user_id: "ada".into(), ..Default::default() };
        let digest = |key: u8, method: &str, request: &v1::LogoutRequest| Digests::new(&[key; 32]).of(method, request);
        let first = digest(1, "Logout", &request);
        assert_eq!(first, digest(1, "Logout", &request.clone()));
        assert_ne!(first, digest(2, "Logout", &request));
        assert_ne!(first, digest(1, "Login", &request));
        assert_ne!(first, digest(1, "Logout", &v1::LogoutRequest::default()));
        assert_ne!(first, NO_REQUEST);
    }
}
