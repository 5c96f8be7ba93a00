-- The log, and the views, which contain nothing that is not in the log. `log_id` leads every key.

CREATE TABLE instance (
    name text/*C*/ NOT NULL
);

CREATE TABLE log_heads (
    log_id bigint NOT NULL PRIMARY KEY,
    project text/*C*/ NOT NULL,
    number bigint NOT NULL,
    size bigint NOT NULL,
    frontier text/*C*/ NOT NULL,
    recorded_at_ms bigint NOT NULL,
    control_count bigint NOT NULL,
    nudge_count bigint NOT NULL,
    closed bigint NOT NULL,
    UNIQUE (project, number)
);

CREATE TABLE events (
    log_id bigint NOT NULL,
    position bigint NOT NULL,
    stream text/*C*/ NOT NULL,
    event_id text/*C*/ NOT NULL,
    recorded_at_ms bigint NOT NULL,
    entry text/*C*/ NOT NULL,
    PRIMARY KEY (log_id, position),
    UNIQUE (log_id, stream, event_id)
);

CREATE TABLE texts (
    log_id bigint NOT NULL,
    position bigint NOT NULL,
    salt text/*C*/ NOT NULL,
    text text/*C*/ NOT NULL,
    PRIMARY KEY (log_id, position)
) /*WITHOUT ROWID*/;

CREATE TABLE views (
    log_id bigint NOT NULL,
    name text/*C*/ NOT NULL,
    revision bigint NOT NULL,
    generation bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (log_id, name)
) /*WITHOUT ROWID*/;

CREATE TABLE device_current (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    device text/*C*/ NOT NULL,
    model text/*C*/,
    cohort text/*C*/,
    tags text/*C*/ NOT NULL,
    pinned text/*C*/,
    decommissioned bigint NOT NULL,
    version text/*C*/,
    since_ms bigint,
    previous_version text/*C*/,
    run_place bigint NOT NULL,
    run_position bigint NOT NULL,
    last_place bigint NOT NULL,
    last_position bigint,
    last_version text/*C*/,
    status text/*C*/,
    clock text/*C*/,
    recorded_position bigint,
    recorded_at_ms bigint,
    PRIMARY KEY (log_id, generation, device)
) /*WITHOUT ROWID*/;

CREATE TABLE device_attributes (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    device text/*C*/ NOT NULL,
    position bigint NOT NULL,
    model text/*C*/,
    cohort text/*C*/,
    tags text/*C*/ NOT NULL,
    pinned text/*C*/,
    decommissioned bigint NOT NULL,
    PRIMARY KEY (log_id, generation, device, position)
) /*WITHOUT ROWID*/;

CREATE TABLE device_history (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    device text/*C*/ NOT NULL,
    place bigint NOT NULL,
    position bigint NOT NULL,
    moves bigint NOT NULL,
    version text/*C*/ NOT NULL,
    status text/*C*/ NOT NULL,
    time_ms bigint NOT NULL,
    recorded_at_ms bigint NOT NULL,
    occurred_at_ms bigint,
    clock text/*C*/,
    late bigint NOT NULL,
    pinned text/*C*/,
    sent text/*C*/,
    detailed bigint NOT NULL,
    PRIMARY KEY (log_id, generation, device, place, position)
) /*WITHOUT ROWID*/;

CREATE TABLE fleet_versions (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    model text/*C*/ NOT NULL,
    version text/*C*/ NOT NULL,
    bucket bigint NOT NULL,
    devices bigint NOT NULL,
    PRIMARY KEY (log_id, generation, model, version, bucket)
) /*WITHOUT ROWID*/;

CREATE TABLE fleet_moves (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    position bigint NOT NULL,
    model_left text/*C*/,
    version_left text/*C*/,
    model_entered text/*C*/,
    version_entered text/*C*/,
    PRIMARY KEY (log_id, generation, position)
) /*WITHOUT ROWID*/;
