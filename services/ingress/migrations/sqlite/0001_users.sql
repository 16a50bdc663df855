-- Accounts. Status: 0 ACTIVE, 1 FLAGGED, 2 PASSWORD_RESET_REQUIRED, 3 SUSPENDED. Times are milliseconds since the epoch.
CREATE TABLE users (
    user_id       TEXT    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    status        INTEGER NOT NULL CHECK (status BETWEEN 0 AND 3),
    status_epoch  INTEGER NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is remembered of anybody who ever acted, registered or not.
CREATE TABLE authentication_states (
    user_id       TEXT    NOT NULL PRIMARY KEY,
    failures      INTEGER NOT NULL,
    last_ip       TEXT,
    last_ip_at    INTEGER,
    last_login_at INTEGER,
    open_sessions TEXT    NOT NULL -- one per line, oldest first
) STRICT, WITHOUT ROWID;

-- Every event id that was accepted, with the digest of its request and the first answer, forgotten by day.
CREATE TABLE request_ids (
    event_id BLOB    NOT NULL PRIMARY KEY,
    day      INTEGER NOT NULL,
    digest   BLOB    NOT NULL,
    receipt  BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX request_ids_by_day ON request_ids (day);

CREATE TABLE applied_verdicts (
    event_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Committed events that the broker has not confirmed: per transaction and partition one row. Ids only grow.
CREATE TABLE outbox (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    partition    INTEGER NOT NULL,
    records      INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    bytes        BLOB    NOT NULL
) STRICT;
CREATE INDEX outbox_by_partition ON outbox (partition, id);

-- The one key of the request digests.
CREATE TABLE digest_key (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    key  BLOB    NOT NULL CHECK (length(key) = 32)
) STRICT;
