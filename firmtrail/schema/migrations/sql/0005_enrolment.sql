-- API tokens that register devices, and the devices and keys that wait to be accepted.

ALTER TABLE tokens ADD COLUMN registers bigint NOT NULL DEFAULT 0;

ALTER TABLE tokens ADD COLUMN model text/*C*/;

ALTER TABLE tokens ADD COLUMN registers_max bigint;

ALTER TABLE tokens ADD COLUMN registered bigint NOT NULL DEFAULT 0;

CREATE VIEW audited_registrars AS
SELECT token_id, project, registers, model, registers_max, registered
FROM tokens;

ALTER TABLE device_current ADD COLUMN pending bigint NOT NULL DEFAULT 0;

ALTER TABLE device_current ADD COLUMN offered_key text/*C*/;

ALTER TABLE device_attributes ADD COLUMN pending bigint NOT NULL DEFAULT 0;

ALTER TABLE device_attributes ADD COLUMN offered_key text/*C*/;

CREATE INDEX device_current_waiting ON device_current (log_id, generation, device)
WHERE pending = 1 OR offered_key IS NOT NULL;
