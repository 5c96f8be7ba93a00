-- Rollouts and rollbacks, the offers and asks made to devices, and their outcomes.

CREATE TABLE rollouts (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    rollout text/*C*/ NOT NULL,
    model text/*C*/ NOT NULL,
    version text/*C*/,
    reach bigint NOT NULL,
    cohort text/*C*/,
    tag text/*C*/,
    failed_percent bigint,
    min_reports bigint,
    bad_version text/*C*/,
    fallback text/*C*/,
    phase text/*C*/ NOT NULL,
    position bigint NOT NULL,
    started_at_ms bigint NOT NULL,
    phase_position bigint NOT NULL,
    phase_at_ms bigint NOT NULL,
    resumed_position bigint NOT NULL,
    recent_installed bigint NOT NULL,
    recent_failed bigint NOT NULL,
    PRIMARY KEY (log_id, generation, rollout)
) /*WITHOUT ROWID*/;

CREATE TABLE device_offers (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    device text/*C*/ NOT NULL,
    source text/*C*/ NOT NULL,
    version text/*C*/ NOT NULL,
    cause text/*C*/ NOT NULL,
    position bigint NOT NULL,
    offered_at_ms bigint NOT NULL,
    attempt bigint NOT NULL,
    attempts bigint NOT NULL,
    has_failed bigint NOT NULL,
    is_counted bigint NOT NULL,
    installing_place bigint NOT NULL,
    outcome text/*C*/,
    outcome_position bigint NOT NULL,
    outcome_place bigint NOT NULL,
    PRIMARY KEY (log_id, generation, device, source, version)
) /*WITHOUT ROWID*/;

CREATE INDEX device_offers_by_source ON device_offers (log_id, generation, source, device);

CREATE TABLE device_asks (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    device text/*C*/ NOT NULL,
    question text/*C*/ NOT NULL,
    position bigint NOT NULL,
    asked_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    answered_position bigint,
    answered_at_ms bigint,
    version text/*C*/,
    PRIMARY KEY (log_id, generation, device, question)
) /*WITHOUT ROWID*/;

ALTER TABLE device_history ADD COLUMN ordered text/*C*/;

-- A log that is older than these tables has no orders and asks: its views are complete without rows.

INSERT INTO views (log_id, name, revision, generation, position)
SELECT log_heads.log_id, names.name, 1, 1, 0
FROM log_heads
CROSS JOIN (
    SELECT 'rollouts' AS name
    UNION ALL SELECT 'device_offers'
    UNION ALL SELECT 'device_asks') AS names;

-- Nudges, which older versions did not count: events after which one device is decided again.

UPDATE log_heads
SET nudge_count = (
    SELECT count(*)
    FROM events
    WHERE events.log_id = log_heads.log_id
        AND (events.entry LIKE '%","type":"firmtrail.DeviceChanged.v1","subject":"device/%'
            OR events.entry LIKE '%","type":"firmtrail.DeviceSecretIssued.v1","subject":"device/%'
            OR events.entry LIKE '%","type":"firmtrail.DeviceSecretRevoked.v1","subject":"device/%'
            OR events.entry LIKE '%","type":"firmtrail.DeviceDecommissioned.v1","subject":"device/%'));
