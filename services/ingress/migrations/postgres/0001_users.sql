-- Keys are compared by bytes: every transaction locks them in the same order, whatever the locale of the database.
-- Times are milliseconds since the epoch.

-- Accounts. Status: 0 ACTIVE, 1 FLAGGED, 2 PASSWORD_RESET_REQUIRED, 3 SUSPENDED.
CREATE TABLE users (
    user_id       text COLLATE "C" PRIMARY KEY,
    email         text COLLATE "C" NOT NULL UNIQUE,
    password_hash text     NOT NULL,
    status        smallint NOT NULL CHECK (status BETWEEN 0 AND 3),
    status_epoch  bigint   NOT NULL,
    created_at    bigint   NOT NULL
);

-- What is remembered of anybody who ever acted, registered or not. Changed by every event: no column but the key is
-- indexed and pages keep room, so that a change touches no index.
CREATE TABLE authentication_states (
    user_id       text COLLATE "C" PRIMARY KEY,
    failures      integer NOT NULL,
    last_ip       text,
    last_ip_at    bigint,
    last_login_at bigint,
    open_sessions text    NOT NULL -- one per line, oldest first
) WITH (fillfactor = 70);

-- Every event id that was accepted, with the digest of its request and the first answer. A partition is one UTC day
-- (days since the epoch), made ahead and dropped whole.
CREATE TABLE request_ids (
    event_id uuid    NOT NULL,
    day      integer NOT NULL,
    digest   bytea   NOT NULL,
    receipt  bytea   NOT NULL,
    PRIMARY KEY (event_id, day)
) PARTITION BY LIST (day);

-- The newest day there is, no row before the first. Only whoever writes ids of this day may write beside others: the
-- key above tells ids apart within a day, not across two.
CREATE TABLE request_day (
    one boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    day integer NOT NULL
);

CREATE TABLE applied_verdicts (
    event_id uuid PRIMARY KEY
);

-- Committed events that the broker has not confirmed: per transaction and partition one row. Short-lived: what was
-- deleted is cleaned up by count, not by share, and what is stored is not worth compressing.
CREATE TABLE outbox (
    id           bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition    integer NOT NULL,
    records      integer NOT NULL,
    committed_at bigint  NOT NULL,
    bytes        bytea   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE outbox ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE INDEX outbox_by_partition ON outbox (partition, id);

-- Who publishes which shard of the outbox. A token is given once: with every new owner it grows.
CREATE TABLE outbox_shards (
    partition  integer PRIMARY KEY,
    owner      uuid,
    token      bigint      NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- The relays that live: each is due an even share of the shards.
CREATE TABLE outbox_relays (
    relay       uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The one key of the request digests.
CREATE TABLE digest_key (
    one boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    key bytea   NOT NULL CHECK (octet_length(key) = 32)
);
