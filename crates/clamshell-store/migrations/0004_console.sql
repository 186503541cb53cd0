-- People at the console: their passwords, their logins, links that sign them in, and who they are at a provider.

-- `hash` is a PHC string of Argon2id. `root` is a user here as well.
CREATE TABLE console_passwords (
    user_name TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL
);

-- `token_hash` is SHA-256: who reads this file cannot sign in. `method`: 1 link, 2 password, 3 provider.
CREATE TABLE console_logins (
    login_id TEXT NOT NULL PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE,
    user_name TEXT NOT NULL,
    method BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    last_used_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    source_ip TEXT NOT NULL,
    user_agent TEXT NOT NULL
);

CREATE INDEX console_logins_by_user ON console_logins (user_name);

CREATE TABLE console_links (
    token_hash BLOB NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);

-- A name at a provider may change hands, its `subject` does not.
CREATE TABLE console_identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_name TEXT NOT NULL UNIQUE,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
