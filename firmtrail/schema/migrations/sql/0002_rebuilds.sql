-- The views that are being rebuilt next to the live ones. Each row is deleted with its rebuild.

CREATE TABLE rebuilds (
    log_id bigint NOT NULL,
    name text/*C*/ NOT NULL,
    revision bigint NOT NULL,
    generation bigint NOT NULL,
    position bigint NOT NULL,
    is_wanted bigint NOT NULL,
    builder text/*C*/ NOT NULL,
    seen_at_ms bigint NOT NULL,
    PRIMARY KEY (log_id, name)
) /*WITHOUT ROWID*/;
