-- Times are milliseconds since 1970. Numbers of enums are written out in the Rust file of the
-- table and never reused. Never edit a file in this folder once it has shipped: add the next one.

CREATE TABLE account (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE access_keys (
    access_key_id TEXT NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL,
    status BIGINT NOT NULL,
    secret BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    last_used_at_ms BIGINT
);

CREATE TABLE runtimes (
    runtime_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    latest_version BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE runtime_versions (
    runtime_id TEXT NOT NULL REFERENCES runtimes (runtime_id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    spec TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (runtime_id, version)
);

CREATE TABLE endpoints (
    runtime_id TEXT NOT NULL REFERENCES runtimes (runtime_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (runtime_id, name),
    FOREIGN KEY (runtime_id, version) REFERENCES runtime_versions (runtime_id, version)
);

CREATE TABLE sessions (
    runtime_id TEXT NOT NULL REFERENCES runtimes (runtime_id),
    endpoint TEXT NOT NULL,
    session_id TEXT NOT NULL,
    storage_id TEXT NOT NULL UNIQUE,
    id_range BIGINT NOT NULL UNIQUE,
    phase BIGINT NOT NULL,
    runtime_version BIGINT NOT NULL,
    driver TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    stopped_at_ms BIGINT,
    stop_reason BIGINT,
    last_activity_at_ms BIGINT NOT NULL,
    PRIMARY KEY (runtime_id, endpoint, session_id)
);

CREATE INDEX sessions_by_creation ON sessions (created_at_ms, storage_id);
