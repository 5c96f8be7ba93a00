-- An INSERT into `events` must be at the next position: at the size of a head that this transaction has
-- locked (it has updated the row), or after a row that this transaction has inserted. A row trigger
-- sees the rows that its own statement inserted before. A row that stood ahead of the head would be in
-- the way of every later append.
-- The functions name the schema, so that no table of another one can stand in for the log's heads.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION refuse_other_than_next() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN
    IF EXISTS (
        SELECT 1 FROM %1$I.events AS before
        WHERE before.log_id = NEW.log_id
            AND before.position = NEW.position - 1
            AND before.xmin = pg_current_xact_id()::xid)
    THEN RETURN NEW;
    END IF;
    IF EXISTS (
        SELECT 1 FROM %1$I.log_heads AS head
        WHERE head.log_id = NEW.log_id
            AND head.size = NEW.position
            AND head.xmin = pg_current_xact_id()::xid)
    THEN RETURN NEW;
    END IF;
    RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME USING DETAIL = format(
        'Position %%s of log %%s is not the next one, or the head of the log is not locked.',
        NEW.position, NEW.log_id);
END $$
$function$, current_schema()); END $do$;

CREATE TRIGGER events_append BEFORE INSERT ON events
FOR EACH ROW EXECUTE FUNCTION refuse_other_than_next();

ALTER TABLE events ENABLE ALWAYS TRIGGER events_append;

-- As on SQLite, a subtree must be the next one of its level.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION refuse_other_subtree() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN
    IF NEW.number = (
        SELECT coalesce(max(last.number), -1) + 1 FROM %1$I.subtrees AS last
        WHERE last.log_id = NEW.log_id AND last.level = NEW.level)
    THEN RETURN NEW;
    END IF;
    RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME USING DETAIL = format(
        'Number %%s of level %%s of log %%s is not the next one.',
        NEW.number, NEW.level, NEW.log_id);
END $$
$function$, current_schema()); END $do$;

CREATE TRIGGER subtrees_append BEFORE INSERT ON subtrees
FOR EACH ROW EXECUTE FUNCTION refuse_other_subtree();

ALTER TABLE subtrees ENABLE ALWAYS TRIGGER subtrees_append;
