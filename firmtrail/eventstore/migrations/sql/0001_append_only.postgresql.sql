-- ENABLE ALWAYS: session_replication_role = replica would skip a plain trigger.

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)';

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;

CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE ON events
FOR EACH ROW EXECUTE FUNCTION refuse();

CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION refuse();

ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_change;

ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_truncate;
