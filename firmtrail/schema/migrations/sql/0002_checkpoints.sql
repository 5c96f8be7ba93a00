-- The checkpoints that anybody may have seen, and the logs that continue others.

CREATE TABLE checkpoints (
    log_id bigint NOT NULL,
    size bigint NOT NULL,
    note text/*C*/ NOT NULL,
    PRIMARY KEY (log_id, size)
) /*WITHOUT ROWID*/;

-- The first `size` events of `old_log_id` come before those of `log_id`: at the positions from
-- `start` on, below 0. A log has a row for each log that it continues, directly or through others.

CREATE TABLE continued (
    log_id bigint NOT NULL,
    old_log_id bigint NOT NULL,
    size bigint NOT NULL,
    start bigint NOT NULL,
    PRIMARY KEY (log_id, old_log_id)
) /*WITHOUT ROWID*/;
