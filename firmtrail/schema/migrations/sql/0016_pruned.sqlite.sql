-- An UPDATE of `events` may replace the text of an archived entry of a device by its stub. Everything
-- else is refused, as before. Only a connection that prunes has the function `leaf_hash`; in every other
-- program, SQLite refuses an UPDATE of `events` because there is no such function.

DROP TRIGGER events_no_update;

CREATE TRIGGER events_no_update BEFORE UPDATE ON events
WHEN NEW.rowid IS NOT OLD.rowid
    OR NEW.log_id IS NOT OLD.log_id
    OR NEW.position IS NOT OLD.position
    OR NEW.stream IS NOT OLD.stream
    OR NEW.event_id IS NOT OLD.event_id
    OR NEW.recorded_at_ms IS NOT OLD.recorded_at_ms
    OR substr(OLD.stream, 1, 7) IS NOT 'device/'
    OR substr(OLD.entry, 1, 1) IS '#'
    OR NEW.entry IS NOT '#' || OLD.log_id || '/' || OLD.position || '/' || leaf_hash(OLD.entry)
    OR NOT EXISTS (
        SELECT 1 FROM archives WHERE log_id = OLD.log_id AND size > OLD.position)
    OR NOT EXISTS (
        SELECT 1 FROM pruned WHERE log_id = OLD.log_id AND size > OLD.position)
BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
