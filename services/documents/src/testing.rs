//! A real server for tests: each has a database of its own and drops it.
use std::env;

use uuid::Uuid;

use crate::Documents;

/// Names the server.
const VARIABLE: &str = "HEADWATER_TEST_MONGODB_URI";

/// A database that nobody else has.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    pub documents: Documents,
}

impl TestDatabase {
    /// Panics without a server: a test that looks at none proves nothing.
    pub async fn create() -> Self {
        let uri = env::var(VARIABLE).expect(
            "this test needs a Mongo-protocol server: run `make test`, or `deploy/native/stack up mongo`, then \
             `eval \"$(deploy/native/stack env mongo)\" && export HEADWATER_TEST_MONGODB_URI=$MONGODB_URI`",
        );
        let name = format!("headwater_test_{}", Uuid::new_v4().simple());
        let documents = Documents::open_database(&uri, &name).await;
        Self { documents: documents.expect("the server that HEADWATER_TEST_MONGODB_URI names answers") }
    }

    pub async fn wipe(self) {
        self.documents.drop_database().await.expect("a database can be dropped");
    }
}
