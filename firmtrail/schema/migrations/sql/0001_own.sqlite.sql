-- INSERT OR REPLACE deletes without firing DELETE triggers while recursive_triggers is off, which is
-- the default in every other program. So an INSERT must be at the next position, with an id and a
-- rowid that are free.

CREATE TRIGGER events_no_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;

CREATE TRIGGER events_no_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;

CREATE TRIGGER events_append BEFORE INSERT ON events
WHEN NEW.position IS NOT (
        SELECT coalesce(max(position), -1) + 1 FROM events WHERE log_id = NEW.log_id)
    OR EXISTS (
        SELECT 1 FROM events
        WHERE log_id = NEW.log_id AND stream = NEW.stream AND event_id = NEW.event_id)
    OR EXISTS (SELECT 1 FROM events WHERE rowid = NEW.rowid)
BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
