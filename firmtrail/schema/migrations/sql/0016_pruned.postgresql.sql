-- An UPDATE of `events` may replace the text of an archived entry of a device by its stub. Everything
-- else is refused, as before. The role that serves has no right to UPDATE.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION refuse_unless_stub() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN
    IF TG_OP = 'UPDATE'
        AND NEW.log_id = OLD.log_id
        AND NEW.position = OLD.position
        AND NEW.stream = OLD.stream
        AND NEW.event_id = OLD.event_id
        AND NEW.recorded_at_ms = OLD.recorded_at_ms
        AND starts_with(OLD.stream, 'device/')
        AND NOT starts_with(OLD.entry, '#')
        AND NEW.entry = '#' || OLD.log_id || '/' || OLD.position || '/' || encode(
            sha256('\x00'::bytea || convert_to(OLD.entry, 'UTF8')), 'hex')
        AND EXISTS (
            SELECT 1 FROM %1$I.archives AS archive
            WHERE archive.log_id = OLD.log_id AND archive.size > OLD.position)
        AND EXISTS (
            SELECT 1 FROM %1$I.pruned AS pruned
            WHERE pruned.log_id = OLD.log_id AND pruned.size > OLD.position)
    THEN RETURN NEW;
    END IF;
    RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME;
END $$
$function$, current_schema()); END $do$;

DROP TRIGGER events_no_change ON events;

CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE ON events
FOR EACH ROW EXECUTE FUNCTION refuse_unless_stub();

ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_change;
