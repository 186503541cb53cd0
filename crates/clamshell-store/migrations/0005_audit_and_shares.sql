-- Who did what; names that people gave to shells; links that let others see a shell.

-- Ids grow in the order of writing and are given out by the server, which is the only writer.
-- `via`: 1 signature, 2 cookie, 3 share, 4 token, 5 none. `outcome`: 1 allowed, 2 denied, 3 failed.
CREATE TABLE audit_records (
    id BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    principal TEXT NOT NULL,
    user_name TEXT NOT NULL,
    source_ip TEXT NOT NULL,
    via BIGINT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome BIGINT NOT NULL,
    status BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX audit_records_by_time ON audit_records (at_ms);
CREATE INDEX audit_records_by_user ON audit_records (user_name, id);
CREATE INDEX audit_records_by_action ON audit_records (action, id);

CREATE TABLE shell_titles (
    runtime_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    session_id TEXT NOT NULL,
    shell_id TEXT NOT NULL,
    title TEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (runtime_id, endpoint, session_id, shell_id),
    FOREIGN KEY (runtime_id, endpoint, session_id)
        REFERENCES sessions (runtime_id, endpoint, session_id) ON DELETE CASCADE
);

-- `token_hash` is SHA-256: who reads this file cannot use a link. `access`: 1 watch, 2 write.
CREATE TABLE shell_shares (
    share_id TEXT NOT NULL PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE,
    runtime_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    session_id TEXT NOT NULL,
    shell_id TEXT NOT NULL,
    access BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    FOREIGN KEY (runtime_id, endpoint, session_id)
        REFERENCES sessions (runtime_id, endpoint, session_id) ON DELETE CASCADE
);

CREATE INDEX shell_shares_by_session ON shell_shares (runtime_id, endpoint, session_id);
CREATE INDEX shell_shares_by_expiry ON shell_shares (expires_at_ms);
