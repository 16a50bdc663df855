//! Against a real PostgreSQL: what the port promises, and what only shows between several instances.
use std::env;

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use uuid::Uuid;

use super::PostgresStore;

/// Tables of its own, in a schema of the database that HEADWATER_TEST_DATABASE_URL names.
struct Database {
    server: String,
    /// The schema's, and what its sessions are called.
    name: String,
    url: String,
}

impl Database {
    async fn create() -> Self {
        let server = env::var("HEADWATER_TEST_DATABASE_URL").expect(
            "this test needs a PostgreSQL: run `make test`, or `deploy/native/stack up postgres`, then \
             `eval \"$(deploy/native/stack env postgres)\" && export HEADWATER_TEST_DATABASE_URL=$DATABASE_URL`",
        );
        let name = format!("headwater_test_{}", Uuid::new_v4().simple());
        let url = format!("{server}?application_name={name}&options[search_path]={name}");
        let database = Self { url, server, name };
        database.administer(format!("CREATE SCHEMA {}", database.name)).await;
        database
    }

    async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url).await.unwrap()
    }

    async fn administer(&self, statement: String) {
        let mut connection = PgConnection::connect(&self.server).await.unwrap();
        raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }

    async fn wipe(self) {
        self.administer(format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_what_the_port_promises() {
    let databases = std::sync::Mutex::new(Vec::new());
    super::super::conformance::suite(|| async {
        let database = Database::create().await;
        let store = database.open().await;
        databases.lock().unwrap().push(database);
        store
    })
    .await;
    for database in databases.into_inner().unwrap() {
        database.wipe().await;
    }
}
