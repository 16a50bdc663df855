//! Calls with a password in them: hashed or verified first, then decided, and once more where the hash was changed
//! in between.
use std::sync::Arc;

use headwater_proto::v1;
use headwater_rpc::Reason;
use tonic::Status;

use super::{Api, refusal};
use crate::{
    action::{Action, Answer, LoginUser, Origin, Verified, What},
    fields::Password,
    passwords::Busy,
    users::{Credentials, Store, Who, decide::ip_changed_id},
    validate::{self, ChangePassword, Login, Register},
};

/// Each failed attempt means that somebody else changed the password while it was verified.
const ATTEMPTS: usize = 4;

impl<S: Store> Api<S> {
    pub(super) async fn register(
        &self,
        request: v1::RegisterUserRequest,
        origin: Origin,
    ) -> Result<v1::RegisterUserResponse, Status> {
        let Register { head, user_id, email, password } = validate::register(request, self.arrival(origin))?;
        let event_id = head.id.to_string();
        let password_hash = self.shared.passwords.hash(password).await.map_err(busy)?;
        let what = What::Register { user_id, email, password_hash };
        let (receipt, _) = self.settle(Action { head, what }).await?;
        Ok(v1::RegisterUserResponse { user_id: receipt.user_id, event_id })
    }

    pub(super) async fn log_in(&self, request: v1::LoginRequest, origin: Origin) -> Result<v1::LoginResponse, Status> {
        let login = validate::login(request, self.arrival(origin))?;
        let mut attempts = 1;
        let answer = loop {
            let answer = self.answer(self.verified_login(&login).await?).await?;
            if answer != Ok(Answer::PasswordStale) || attempts == ATTEMPTS {
                break answer;
            }
            attempts += 1;
        };
        let (receipt, _) = refusal::settled(answer)?;
        let id = login.head.id;
        let ip_changed = receipt.ip_changed.then(|| ip_changed_id(id));
        let event_ids = ip_changed.into_iter().chain([id]).map(|id| id.to_string()).collect();
        Ok(v1::LoginResponse { user_id: receipt.user_id, session_id: receipt.session_id, event_ids })
    }

    pub(super) async fn set_password(
        &self,
        request: v1::ChangePasswordRequest,
        origin: Origin,
    ) -> Result<v1::ChangePasswordResponse, Status> {
        let change = validate::change_password(request, self.arrival(origin))?;
        let mut attempts = 1;
        let answer = loop {
            let answer = self.answer(self.verified_change(&change).await?).await?;
            if answer != Ok(Answer::PasswordStale) || attempts == ATTEMPTS {
                break answer;
            }
            attempts += 1;
        };
        refusal::settled(answer)?;
        Ok(v1::ChangePasswordResponse { event_id: change.head.id.to_string() })
    }

    async fn verified_login(&self, login: &Login) -> Result<Action, Status> {
        let Login { head, who, password, session_id } = login;
        let user = match self.credentials(who).await? {
            Some(Credentials { user_id, password_hash }) => {
                LoginUser::Known { user_id, verified: self.verified(password, password_hash).await? }
            }
            None => {
                self.shared.passwords.verify_nobodys(password.clone()).await.map_err(busy)?;
                LoginUser::Unknown(who.as_str().into())
            }
        };
        Ok(Action { head: head.clone(), what: What::Login { user, session_id: session_id.clone() } })
    }

    async fn verified_change(&self, change: &ChangePassword) -> Result<Action, Status> {
        let ChangePassword { head, user_id, old_password, new_password } = change;
        let credentials = self.credentials(&Who::Id(user_id.clone())).await?;
        let hash = credentials.ok_or_else(|| refusal::because(Reason::UserNotFound))?.password_hash;
        let verified = self.verified(old_password, hash.clone()).await?;
        // either way two computations: a right password does not show in the time
        let (new_hash, new_matches) = if verified.matches {
            let new_hash = self.shared.passwords.hash(new_password.clone()).await.map_err(busy)?;
            (Some(new_hash), new_password == old_password)
        } else {
            (None, self.verified(new_password, hash).await?.matches)
        };
        let what = What::ChangePassword { user_id: user_id.clone(), verified, new_hash, new_matches };
        Ok(Action { head: head.clone(), what })
    }

    async fn credentials(&self, who: &Who) -> Result<Option<Credentials>, Status> {
        self.shared.store.credentials(who).await.map_err(|error| refusal::store(&error))
    }

    async fn verified(&self, password: &Password, hash: Arc<str>) -> Result<Verified, Status> {
        let matches = self.shared.passwords.verify(password.clone(), hash.clone()).await.map_err(busy)?;
        Ok(Verified { hash, matches })
    }
}

fn busy(_: Busy) -> Status {
    refusal::overloaded()
}
