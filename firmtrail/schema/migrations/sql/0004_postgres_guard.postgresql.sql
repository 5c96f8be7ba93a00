-- An INSERT into `events` must continue the log: its rows have no gaps, and the first of them is at the
-- size of a head that this transaction has locked (it has updated the row), or after a row that this
-- transaction has inserted. A row that stood ahead of the head would be in the way of every later append.
-- One check a statement, after its rows: a check a row made arrays on PostgreSQL a fifth slower.
-- The functions name the schema, so that no table of another one can stand in for the log's heads.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION refuse_other_than_next() RETURNS trigger LANGUAGE plpgsql
AS $$ DECLARE
    refused record;
BEGIN
    SELECT part.log_id, part.first INTO refused
    FROM (
        SELECT log_id, min(position) AS first, max(position) AS last, count(*) AS rows
        FROM added
        GROUP BY log_id) AS part
    WHERE part.last - part.first + 1 <> part.rows
        OR NOT EXISTS (
            SELECT 1 FROM %1$I.log_heads AS head
            WHERE head.log_id = part.log_id
                AND head.size = part.first
                AND head.xmin = pg_current_xact_id()::xid)
        AND NOT EXISTS (
            SELECT 1 FROM %1$I.events AS before
            WHERE before.log_id = part.log_id
                AND before.position = part.first - 1
                AND before.xmin = pg_current_xact_id()::xid)
    LIMIT 1;
    IF NOT FOUND THEN RETURN NULL;
    END IF;
    RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME USING DETAIL = format(
        'Position %%s of log %%s is not the next one, or the head of the log is not locked.',
        refused.first, refused.log_id);
END $$
$function$, current_schema()); END $do$;

CREATE TRIGGER events_append AFTER INSERT ON events
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION refuse_other_than_next();

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
