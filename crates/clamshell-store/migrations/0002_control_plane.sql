-- What the control plane changes: states of versions and endpoints, tags, policies, tokens.

-- Numbers of `ResourceStatus`, see runtimes.rs; what there was before is READY.
ALTER TABLE runtime_versions ADD COLUMN status BIGINT NOT NULL DEFAULT 5;
ALTER TABLE runtime_versions ADD COLUMN failure_reason TEXT;
ALTER TABLE runtime_versions ADD COLUMN updated_at_ms BIGINT NOT NULL DEFAULT 0;
UPDATE runtime_versions SET updated_at_ms = created_at_ms;

-- The runtime as a whole: NULL, DELETING or DELETE_FAILED.
ALTER TABLE runtimes ADD COLUMN deletion BIGINT;
ALTER TABLE runtimes ADD COLUMN deletion_reason TEXT;
ALTER TABLE runtimes ADD COLUMN deletion_at_ms BIGINT;

ALTER TABLE endpoints ADD COLUMN endpoint_id TEXT;
ALTER TABLE endpoints ADD COLUMN description TEXT;
ALTER TABLE endpoints ADD COLUMN target_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN status BIGINT NOT NULL DEFAULT 5;
ALTER TABLE endpoints ADD COLUMN failure_reason TEXT;
UPDATE endpoints SET target_version = version;

CREATE TABLE tags (
    resource_arn TEXT NOT NULL,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (resource_arn, tag_key)
);

CREATE TABLE resource_policies (
    resource_arn TEXT NOT NULL PRIMARY KEY,
    policy TEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL
);

CREATE TABLE idempotency_tokens (
    operation TEXT NOT NULL,
    token TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (operation, token)
);

CREATE INDEX idempotency_tokens_by_age ON idempotency_tokens (created_at_ms);
