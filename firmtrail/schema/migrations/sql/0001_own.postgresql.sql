-- For a table that was never analysed the planner assumes that two constants of its key leave about
-- one row; so it would read all devices of a log to find those of a batch. In truth `log_id`,
-- `generation`, `moves` and `project` leave nearly all rows. These statistics are set before the
-- first row comes. ANALYZE keeps them only for a table that is not empty, so each table gets two rows
-- for that time; they differ, so that no value counts as common. They are truncated in a savepoint: a
-- table of the same transaction is truncated in place and keeps its count of rows, while a table of
-- an outer transaction gets a new file of unknown size, which the planner does not take for empty. A
-- plan for an empty table would stay in use for minutes while rows come.

ALTER TABLE events
    ALTER COLUMN log_id SET (n_distinct = 1);

INSERT INTO events (
    log_id, position, stream, event_id, recorded_at_ms, entry)
VALUES
    (0, 0, '', '', 0, ''),
    (1, 1, 'a', 'a', 1, 'a');

ANALYZE events;

ALTER TABLE device_current
    ALTER COLUMN log_id SET (n_distinct = 1),
    ALTER COLUMN generation SET (n_distinct = 1);

INSERT INTO device_current (
    log_id, generation, device, tags, decommissioned, run_place, run_position, last_place)
VALUES
    (0, 0, '', '', 0, 0, 0, 0),
    (1, 1, 'a', 'a', 1, 1, 1, 1);

ANALYZE device_current;

ALTER TABLE device_attributes
    ALTER COLUMN log_id SET (n_distinct = 1),
    ALTER COLUMN generation SET (n_distinct = 1);

INSERT INTO device_attributes (
    log_id, generation, device, position, tags, decommissioned)
VALUES
    (0, 0, '', 0, '', 0),
    (1, 1, 'a', 1, 'a', 1);

ANALYZE device_attributes;

ALTER TABLE device_history
    ALTER COLUMN log_id SET (n_distinct = 1),
    ALTER COLUMN generation SET (n_distinct = 1),
    ALTER COLUMN moves SET (n_distinct = 1);

INSERT INTO device_history (
    log_id, generation, device, place, position, moves, version, status, time_ms, recorded_at_ms,
    late, detailed)
VALUES
    (0, 0, '', 0, 0, 0, '', '', 0, 0, 0, 0),
    (1, 1, 'a', 1, 1, 1, 'a', 'a', 1, 1, 1, 1);

ANALYZE device_history;

ALTER TABLE device_secrets
    ALTER COLUMN project SET (n_distinct = 1);

INSERT INTO device_secrets (
    digest, project, device, secret_id, created_at_ms)
VALUES
    ('', '', '', '', 0),
    ('a', 'a', 'a', 'a', 1);

ANALYZE device_secrets;

ALTER TABLE device_seen
    ALTER COLUMN project SET (n_distinct = 1);

INSERT INTO device_seen (
    project, device, seen_at_ms)
VALUES
    ('', '', 0),
    ('a', 'a', 1);

ANALYZE device_seen;

SAVEPOINT filled;

TRUNCATE events, device_current, device_attributes, device_history, device_secrets, device_seen;

RELEASE SAVEPOINT filled;

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
