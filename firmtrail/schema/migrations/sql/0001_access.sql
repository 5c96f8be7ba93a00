-- Access rights: projects, people, tokens, device secrets. These rows change, and the log records the
-- changes. Secrets are stored only as digests or bcrypt hashes, e-mail addresses only in `users`.

CREATE TABLE projects (
    project text/*C*/ NOT NULL PRIMARY KEY,
    log_id bigint NOT NULL,
    created_at_ms bigint NOT NULL
) /*WITHOUT ROWID*/;

CREATE TABLE users (
    actor_id text/*C*/ NOT NULL PRIMARY KEY,
    email text/*C*/ UNIQUE,
    password_hash text/*C*/,
    created_at_ms bigint NOT NULL,
    erased_at_ms bigint
) /*WITHOUT ROWID*/;

CREATE TABLE members (
    project text/*C*/ NOT NULL,
    actor_id text/*C*/ NOT NULL,
    role text/*C*/,
    PRIMARY KEY (project, actor_id)
) /*WITHOUT ROWID*/;

CREATE INDEX members_of_actor ON members (actor_id);

CREATE TABLE tokens (
    digest text/*C*/ NOT NULL PRIMARY KEY,
    token_id text/*C*/ NOT NULL UNIQUE,
    actor_id text/*C*/ NOT NULL,
    project text/*C*/,
    role text/*C*/,
    name text/*C*/ NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    revoked_at_ms bigint
) /*WITHOUT ROWID*/;

CREATE INDEX tokens_of_actor ON tokens (actor_id, token_id);

CREATE TABLE device_secrets (
    digest text/*C*/ NOT NULL,
    project text/*C*/ NOT NULL,
    device text/*C*/ NOT NULL,
    secret_id text/*C*/ NOT NULL,
    bcrypt text/*C*/,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    PRIMARY KEY (digest, project, device)
) /*WITHOUT ROWID*/;

CREATE INDEX device_secrets_of_device ON device_secrets (project, device);

CREATE TABLE device_seen (
    project text/*C*/ NOT NULL,
    device text/*C*/ NOT NULL,
    seen_at_ms bigint NOT NULL,
    PRIMARY KEY (project, device)
) /*WITHOUT ROWID*/;

CREATE TABLE idempotency_keys (
    actor_id text/*C*/ NOT NULL,
    key text/*C*/ NOT NULL,
    fingerprint text/*C*/ NOT NULL,
    status bigint NOT NULL,
    answer text/*C*/ NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (actor_id, key)
) /*WITHOUT ROWID*/;

CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at_ms);
