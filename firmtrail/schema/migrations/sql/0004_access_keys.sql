-- The subjects of a stored answer: the events that its commit recorded, and a person whose address
-- its request named. Erasing one of them finds the answer by these columns.

ALTER TABLE idempotency_keys ADD COLUMN log_id bigint;

ALTER TABLE idempotency_keys ADD COLUMN position bigint;

ALTER TABLE idempotency_keys ADD COLUMN stop bigint;

ALTER TABLE idempotency_keys ADD COLUMN about text/*C*/;
