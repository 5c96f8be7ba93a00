-- The rows that an audit compares with the log: without addresses, digests and hashes of secrets.

CREATE VIEW audited_members AS
SELECT project, actor_id, role
FROM members;

CREATE VIEW audited_tokens AS
SELECT token_id, actor_id, project, role, issued_by, created_at_ms, expires_at_ms, revoked_at_ms
FROM tokens;

CREATE VIEW audited_secrets AS
SELECT project, device, secret_id, expires_at_ms
FROM device_secrets;
