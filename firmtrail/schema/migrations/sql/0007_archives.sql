-- How far each log is archived at each location, as the last step found it there. The archive's own
-- checkpoint says what is in it.

CREATE TABLE archives (
    log_id bigint NOT NULL,
    location text/*C*/ NOT NULL,
    size bigint NOT NULL,
    archived_at_ms bigint NOT NULL,
    lease text/*C*/,
    lease_until_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (log_id, location)
) /*WITHOUT ROWID*/;
