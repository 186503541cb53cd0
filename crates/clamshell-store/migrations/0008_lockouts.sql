-- Networks that failed with passwords so often that they wait. No names: people type their password in the wrong field.

CREATE TABLE console_lockouts (
    source TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    failed_at_ms BIGINT NOT NULL,
    locked_until_ms BIGINT NOT NULL
);
