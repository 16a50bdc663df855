//! What the documents of a running service come to, asked of the process that has them: those in memory are nowhere else.
use std::{collections::BTreeMap, time::Duration};

use headwater_documents::Digest;
use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Target,
    derived::{self, Derived},
    target::reachable,
};

const CONNECT: Duration = Duration::from_secs(5);

/// What `GET /digests/<service>` on an admin port answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) digest: Digest,
    /// Of documents in memory: the offset of each partition up to which the log is in them. Absent where the group's
    /// commits are true of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) positions: Option<BTreeMap<i32, i64>>,
}

impl Live {
    pub(crate) async fn of_analytics(store: &impl headwater_analytics::Store) -> Result<Self, Error> {
        // first, so that nothing below them can be missing in the digest
        let positions = store.positions().map(|positions| positions.all());
        Ok(Self { positions, digest: derived::taken(headwater_analytics::digest(store).await)? })
    }

    pub(crate) async fn of_fraud(store: &impl headwater_fraud::Store) -> Result<Self, Error> {
        let positions = store.positions().map(|positions| positions.all());
        Ok(Self { positions, digest: derived::taken(headwater_fraud::digest(store).await)? })
    }

    /// Of the first process of the platform that runs the service.
    pub(crate) async fn ask(of: Derived, target: &Target) -> Result<Self, Error> {
        let client = Client::builder().connect_timeout(CONNECT).build();
        let client = client.map_err(|error| Error::service("an HTTP client", error))?;
        for &admin in &target.admins {
            let url = format!("http://{}/digests/{}", reachable(admin), of.name());
            let unreachable = |source| Error::unreachable(format!("no answer from {url}; is the platform up?"), source);
            let answer = client.get(&url).send().await.map_err(unreachable)?;
            match answer.status() {
                StatusCode::NOT_FOUND => {}
                StatusCode::OK => return answer.json().await.map_err(unreachable),
                status => {
                    let told = answer.text().await.map_err(unreachable)?;
                    return Err(Error::Failed(format!("{url}: {status}: {told}")));
                }
            }
        }
        let admins: Vec<String> = target.admins.iter().map(ToString::to_string).collect();
        let told = format!(
            "{} runs in none of the processes at {}: name its own by HEADWATER_ADMIN_ADDRESSES, or its documents by \
             MONGODB_URI",
            of.name(),
            admins.join(", ")
        );
        Err(Error::Usage(told))
    }
}
