//! The real parts: `make test` brings them up, and all tests share them. What a test writes there it names so that
//! nobody else does.
use std::env;

use headwater_proto::EventId;
use headwater_stream::{Clock, SystemClock};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, raw_sql};

/// The bootstrap addresses of the Kafka that `HEADWATER_TEST_KAFKA` names.
pub fn kafka() -> String {
    env::var("HEADWATER_TEST_KAFKA").expect(
        "this test needs a Kafka: run `make test`, or `deploy/native/stack up kafka`, then \
         `eval \"$(deploy/native/stack env kafka)\" && export HEADWATER_TEST_KAFKA=$KAFKA_BROKERS`",
    )
}

/// What no other run has in its names: 12 lower-case letters and digits.
pub fn token() -> String {
    let id = EventId::new(SystemClock.now()).to_string();
    id.rsplit('-').next().expect("a UUID has dashes").to_owned() // random
}

/// A schema of a test's own in the PostgreSQL that `HEADWATER_TEST_DATABASE_URL` names.
pub struct Database {
    server: String,
    schema: String,
    url: String,
}

impl Database {
    pub async fn create() -> Self {
        let server = env::var("HEADWATER_TEST_DATABASE_URL").expect(
            "this test needs a PostgreSQL: run `make test`, or `deploy/native/stack up postgres`, then \
             `eval \"$(deploy/native/stack env postgres)\" && export HEADWATER_TEST_DATABASE_URL=$DATABASE_URL`",
        );
        let schema = format!("headwater_test_{}", token());
        let url = format!("{server}?options[search_path]={schema}");
        let database = Self { server, schema, url };
        database.administer(format!("CREATE SCHEMA {}", database.schema)).await;
        database
    }

    /// As `DATABASE_URL` of a platform.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first column of what the query finds; `None` while the server does not answer it.
    pub async fn numbers(&self, query: &'static str) -> Option<Vec<i64>> {
        let mut connection = PgConnection::connect(&self.url).await.ok()?;
        let rows = sqlx::query(query).fetch_all(&mut connection).await.ok()?;
        Some(rows.iter().map(|row| row.get(0)).collect())
    }

    /// With everything in it.
    pub async fn wipe(self) {
        self.administer(format!("DROP SCHEMA {} CASCADE", self.schema)).await;
    }

    async fn administer(&self, statement: String) {
        let mut connection = PgConnection::connect(&self.server).await.expect("the test's PostgreSQL answers");
        raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a schema for this test");
    }
}
