//! Against a real PostgreSQL: what the port promises, and what only shows between several instances.
mod clashes;
mod faults;
mod relays;

use std::{env, future::Future, sync::Mutex, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, raw_sql};
use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::PostgresStore;

/// Of one store: all tests share the server's.
const CONNECTIONS: u32 = 6;
const DEADLINE: Duration = Duration::from_secs(60);

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
        PostgresStore::open_with(&self.url, CONNECTIONS).await.unwrap()
    }

    async fn administer(&self, statement: String) {
        let mut connection = PgConnection::connect(&self.server).await.unwrap();
        raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }

    /// What a query about this database's sessions counts; `$1` is how they are called.
    async fn count(&self, query: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.server).await.unwrap();
        sqlx::query(query).bind(&self.name).fetch_one(&mut connection).await.unwrap().get(0)
    }

    async fn own(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Of this database's tables.
    async fn column(&self, query: &'static str) -> Vec<i64> {
        let rows = sqlx::query(query).fetch_all(&mut self.own().await).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.own().await).await.unwrap();
    }

    async fn wipe(&self) {
        self.administer(format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

/// Asks until it is so; says what was seen where it never is.
async fn until<F: Future<Output = Result<(), String>>>(what: &str, ask: impl Fn() -> F) {
    let deadline = Instant::now() + DEADLINE;
    let mut between = interval(Duration::from_millis(20));
    loop {
        between.tick().await;
        let Err(seen) = ask().await else { return };
        assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_what_the_port_promises() {
    let databases = Mutex::new(Vec::new());
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

#[tokio::test]
async fn a_server_that_is_not_there_is_said_with_its_address_and_without_the_password() {
    let error = PostgresStore::open("postgres://ada:hunter2@127.0.0.1:1/users").await.err().unwrap();
    assert!(error.is_unreachable() && error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
