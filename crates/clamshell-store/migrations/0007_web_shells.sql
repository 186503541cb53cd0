-- Shells that `clamshell web` has opened at its endpoint, so that each user finds their own again and nobody another's.

CREATE TABLE web_shells (
    session_id TEXT NOT NULL,
    shell_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    attached_at_ms BIGINT NOT NULL,
    ended_at_ms BIGINT,
    exit_code BIGINT,
    PRIMARY KEY (session_id, shell_id)
);

CREATE INDEX web_shells_of_owner ON web_shells (owner);
