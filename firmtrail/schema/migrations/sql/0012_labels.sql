-- How many devices of each cohort and of each tag run each version, and how many devices got an offer of
-- a rollback and do not run its bad version.

CREATE TABLE fleet_labels (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    label text/*C*/ NOT NULL,
    model text/*C*/ NOT NULL,
    version text/*C*/ NOT NULL,
    devices bigint NOT NULL,
    PRIMARY KEY (log_id, generation, label, model, version)
) /*WITHOUT ROWID*/;

CREATE TABLE recalled_devices (
    log_id bigint NOT NULL,
    generation bigint NOT NULL,
    rollout text/*C*/ NOT NULL,
    devices bigint NOT NULL,
    PRIMARY KEY (log_id, generation, rollout)
) /*WITHOUT ROWID*/;
