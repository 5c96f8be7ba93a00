-- As on SQLite: a checkpoint may be deleted once a later one of the same 256 events is there. The
-- function is VOLATILE, so it sees which rows the same statement has deleted before.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION refuse_unless_covered() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM %1$I.checkpoints AS later
        WHERE later.log_id = OLD.log_id
            AND later.size > OLD.size
            AND later.size <= (OLD.size + 255) / 256 * 256)
    THEN RETURN OLD;
    END IF;
    RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME;
END $$
$function$, current_schema()); END $do$;

DROP TRIGGER checkpoints_no_change ON checkpoints;

CREATE TRIGGER checkpoints_no_change BEFORE UPDATE OR DELETE ON checkpoints
FOR EACH ROW EXECUTE FUNCTION refuse_unless_covered();

ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_no_change;

-- SECURITY DEFINER: the role that serves may add checkpoints and delete none.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION thin_checkpoints() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
    DELETE FROM %1$I.checkpoints AS gone
    WHERE gone.log_id = NEW.log_id
        AND gone.size <= (NEW.size - 4096) / 256 * 256
        AND gone.size > (coalesce((
            SELECT max(earlier.size) FROM %1$I.checkpoints AS earlier
            WHERE earlier.log_id = NEW.log_id AND earlier.size < NEW.size), 0) - 4096) / 256 * 256
        AND EXISTS (
            SELECT 1 FROM %1$I.checkpoints AS later
            WHERE later.log_id = gone.log_id
                AND later.size > gone.size
                AND later.size <= (gone.size + 255) / 256 * 256);
    RETURN NULL;
END $$
$function$, current_schema()); END $do$;

CREATE TRIGGER checkpoints_thin AFTER INSERT ON checkpoints
FOR EACH ROW EXECUTE FUNCTION thin_checkpoints();

ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_thin;
