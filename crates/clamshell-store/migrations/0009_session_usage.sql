-- What each session has used in all its computes. NULL in `usage_since_ms`: it is older than this, and nothing was
-- counted yet.
ALTER TABLE sessions ADD COLUMN usage_since_ms BIGINT;

-- CPU time of all computes, and how much of the present compute's counter is in it, microseconds.
ALTER TABLE sessions ADD COLUMN cpu_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN cpu_seen_us BIGINT NOT NULL DEFAULT 0;

-- Memory times time, KiB times milliseconds.
ALTER TABLE sessions ADD COLUMN memory_kib_ms BIGINT NOT NULL DEFAULT 0;

-- Sum of 1: CPU time of some compute could not be counted; 2: its memory could not.
ALTER TABLE sessions ADD COLUMN usage_missing BIGINT NOT NULL DEFAULT 0;
