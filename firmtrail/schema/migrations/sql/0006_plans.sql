ALTER TABLE rollouts ADD COLUMN changed_by text/*C*/;
