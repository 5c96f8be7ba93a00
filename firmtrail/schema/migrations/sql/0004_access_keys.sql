-- What a kept answer is about: the events that its commit recorded, and a person whose address its
-- request named. Erasing one of these finds the answer by it.

ALTER TABLE idempotency_keys ADD COLUMN log_id bigint;

ALTER TABLE idempotency_keys ADD COLUMN position bigint;

ALTER TABLE idempotency_keys ADD COLUMN stop bigint;

ALTER TABLE idempotency_keys ADD COLUMN about text/*C*/;
