-- Users, roles and their policies, and secrets of the server itself.

-- `kind`: 1 a user, 2 a role. `root` is no row: it is the account itself.
CREATE TABLE principals (
    kind BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE principal_policies (
    kind BIGINT NOT NULL,
    principal TEXT NOT NULL,
    policy_name TEXT NOT NULL,
    policy TEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, principal, policy_name),
    FOREIGN KEY (kind, principal) REFERENCES principals (kind, name) ON DELETE CASCADE
);

CREATE TABLE server_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
);

-- Until now every key could do everything. Its user still can, and says so in a policy that can be taken away.
INSERT INTO principals (kind, name, description, created_at_ms)
SELECT 1, user_name, '', MIN(created_at_ms) FROM access_keys WHERE user_name <> 'root' GROUP BY user_name;

INSERT INTO principal_policies (kind, principal, policy_name, policy, updated_at_ms)
SELECT 1, name, 'AdministratorAccess',
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}', created_at_ms
FROM principals WHERE kind = 1;
