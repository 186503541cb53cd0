-- What terminals of a runtime start, and the secrets that are handed to it.

-- `secret` is sealed with the master key, for `terminal-secret/` and the name.
CREATE TABLE terminal_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL
);

-- For all versions of a runtime; gone with it.
CREATE TABLE runtime_terminals (
    runtime_id TEXT NOT NULL PRIMARY KEY REFERENCES runtimes (runtime_id) ON DELETE CASCADE,
    settings TEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL
);
