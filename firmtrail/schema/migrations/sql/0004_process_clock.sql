-- A log takes appends up to this time of its last event, even if its clock is far before that time.
-- An operator accepted it after a clock had jumped ahead. 0: none was accepted.
ALTER TABLE log_heads ADD COLUMN accepted_ms bigint NOT NULL DEFAULT 0;
