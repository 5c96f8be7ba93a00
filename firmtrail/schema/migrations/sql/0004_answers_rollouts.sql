-- How long a rollout waits for a device after an offer, the outcome of a silence, and the number of its
-- devices in each state.

ALTER TABLE rollouts ADD COLUMN silent_after_s bigint;

ALTER TABLE device_offers ADD COLUMN silent_position bigint;

-- Offers without an outcome, by the time they were made: they include those of silent devices.

CREATE INDEX device_offers_pending
ON device_offers (log_id, generation, source, offered_at_ms, device)
WHERE outcome IS NULL OR outcome_position < position;

CREATE TABLE rollout_counts (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    rollout text/*C*/ NOT NULL,
    outcome text/*C*/ NOT NULL,
    attempts bigint NOT NULL,
    devices bigint NOT NULL,
    PRIMARY KEY (log_id, generation, rollout, outcome, attempts)
) /*WITHOUT ROWID*/;
