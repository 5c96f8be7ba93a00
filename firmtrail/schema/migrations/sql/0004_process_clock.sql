-- Up to which time of its last event a log takes appends although its clock is far before that:
-- somebody said so, after a clock had jumped ahead. 0: nobody did.
ALTER TABLE log_heads ADD COLUMN accepted_ms bigint NOT NULL DEFAULT 0;
