-- As in 0001_own.postgresql.sql, the triggers are ENABLE ALWAYS and refuse the owner too.

CREATE TRIGGER checkpoints_no_change BEFORE UPDATE OR DELETE ON checkpoints
FOR EACH ROW EXECUTE FUNCTION refuse();

CREATE TRIGGER checkpoints_no_truncate BEFORE TRUNCATE ON checkpoints
FOR EACH STATEMENT EXECUTE FUNCTION refuse();

ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_no_change;

ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_no_truncate;
