-- The releases of a project and their artifacts.

CREATE TABLE releases (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    model text/*C*/ NOT NULL,
    version text/*C*/ NOT NULL,
    position bigint NOT NULL,
    added_at_ms bigint NOT NULL,
    has_notes bigint NOT NULL,
    withdrawn_position bigint,
    withdrawn_at_ms bigint,
    PRIMARY KEY (log_id, generation, model, version)
) /*WITHOUT ROWID*/;

CREATE TABLE release_artifacts (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    model text/*C*/ NOT NULL,
    version text/*C*/ NOT NULL,
    name text/*C*/ NOT NULL,
    position bigint NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text/*C*/ NOT NULL,
    PRIMARY KEY (log_id, generation, model, version, name)
) /*WITHOUT ROWID*/;

CREATE INDEX release_artifacts_by_sha256 ON release_artifacts (log_id, generation, sha256);

-- A log that is older than releases has none: the view of it is complete without rows.

INSERT INTO views (log_id, name, revision, generation, position)
SELECT log_id, 'releases', 1, 1, 0
FROM log_heads;
