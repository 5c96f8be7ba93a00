-- Webhooks of a project, with the position in its log up to which each was called. The secret signs, so
-- it is kept as it is: no read of the service shows it after it was made.

CREATE TABLE webhooks (
    project text/*C*/ NOT NULL,
    webhook_id text/*C*/ NOT NULL,
    url text/*C*/ NOT NULL,
    types text/*C*/,
    models text/*C*/,
    notices text/*C*/ NOT NULL,
    description text/*C*/ NOT NULL,
    enabled bigint NOT NULL,
    disabled_reason text/*C*/,
    secret text/*C*/ NOT NULL,
    old_secret text/*C*/,
    old_secret_until_ms bigint NOT NULL DEFAULT 0,
    created_at_ms bigint NOT NULL,
    revision bigint NOT NULL,
    log_id bigint NOT NULL,
    position bigint NOT NULL,
    delivered_at_ms bigint,
    failing_since_ms bigint,
    failures bigint NOT NULL DEFAULT 0,
    next_at_ms bigint NOT NULL DEFAULT 0,
    last_error text/*C*/,
    deliveries bigint NOT NULL DEFAULT 0,
    lease text/*C*/,
    lease_until_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (project, webhook_id)
);

-- The newest attempts of each webhook, numbered from 1.

CREATE TABLE webhook_deliveries (
    project text/*C*/ NOT NULL,
    webhook_id text/*C*/ NOT NULL,
    number bigint NOT NULL,
    message_id text/*C*/ NOT NULL,
    position bigint,
    type text/*C*/ NOT NULL,
    attempt bigint NOT NULL,
    at_ms bigint NOT NULL,
    duration_ms bigint NOT NULL,
    status bigint,
    error text/*C*/,
    excerpt text/*C*/ NOT NULL,
    PRIMARY KEY (project, webhook_id, number)
);

-- Notices that follow from time and not from an event: each is made once for a webhook, and stays here
-- after its delivery so that it is not made again.

CREATE TABLE webhook_notices (
    project text/*C*/ NOT NULL,
    webhook_id text/*C*/ NOT NULL,
    message_id text/*C*/ NOT NULL,
    type text/*C*/ NOT NULL,
    position bigint NOT NULL,
    body text/*C*/ NOT NULL,
    made_at_ms bigint NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (project, webhook_id, message_id)
);

CREATE INDEX webhook_notices_waiting ON webhook_notices (project, webhook_id, made_at_ms)
WHERE delivered = 0;
