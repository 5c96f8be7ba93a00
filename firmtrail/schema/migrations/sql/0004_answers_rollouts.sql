-- How long a rollout waits for a device that was offered it, what came of the silence, and how many
-- of its devices stand where.

ALTER TABLE rollouts ADD COLUMN silent_after_s bigint;

ALTER TABLE device_offers ADD COLUMN silent_position bigint;

-- Offers without an outcome, by when they were made: those of silent devices are among them.

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
