-- An INSERT must have a size that is free, because INSERT OR REPLACE fires no DELETE trigger: see
-- 0001_own.sqlite.sql.

CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints is append-only'); END;

CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints is append-only'); END;

CREATE TRIGGER checkpoints_add BEFORE INSERT ON checkpoints
WHEN EXISTS (SELECT 1 FROM checkpoints WHERE log_id = NEW.log_id AND size = NEW.size)
BEGIN SELECT RAISE(ABORT, 'checkpoints is append-only'); END;
