ALTER TABLE rollouts ADD COLUMN plan text/*C*/;

ALTER TABLE rollouts ADD COLUMN clock text/*C*/;

ALTER TABLE rollouts ADD COLUMN start_at_ms bigint;

ALTER TABLE rollouts ADD COLUMN window_times text/*C*/;

ALTER TABLE rollouts ADD COLUMN approvals bigint NOT NULL DEFAULT 0;

ALTER TABLE rollouts ADD COLUMN approved_by text/*C*/;

ALTER TABLE rollouts ADD COLUMN started_by text/*C*/;

ALTER TABLE rollouts ADD COLUMN release_position bigint;

ALTER TABLE rollouts ADD COLUMN recent_phase bigint NOT NULL DEFAULT -1;

ALTER TABLE rollouts ADD COLUMN recent_phase_installed bigint NOT NULL DEFAULT 0;

ALTER TABLE rollouts ADD COLUMN recent_phase_failed bigint NOT NULL DEFAULT 0;
