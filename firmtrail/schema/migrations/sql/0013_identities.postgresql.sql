-- The position of each identity (log, stream, event id). The key keeps identities unique over all
-- partitions of `events`: a key of a partitioned table has to contain the position. With the position in
-- its index, an audit reads the index alone.
-- Statistics that the planner needs before the first row comes: see 0001_own.postgresql.sql.
-- Settings of VACUUM: see 0010_large.postgresql.sql.

CREATE TABLE identities (
    log_id bigint NOT NULL,
    stream text/*C*/ NOT NULL,
    event_id text/*C*/ NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (log_id, stream, event_id) INCLUDE (position)
);

ALTER TABLE identities
    ALTER COLUMN log_id SET (n_distinct = 1);

ALTER TABLE identities SET (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_freeze_min_age = 0);

INSERT INTO identities (
    log_id, stream, event_id, position)
VALUES
    (0, '', '', 0),
    (1, 'a', 'a', 1);

ANALYZE identities;

SAVEPOINT filled;

TRUNCATE identities;

RELEASE SAVEPOINT filled;

CREATE TRIGGER identities_no_change BEFORE UPDATE OR DELETE ON identities
FOR EACH ROW EXECUTE FUNCTION refuse();

CREATE TRIGGER identities_no_truncate BEFORE TRUNCATE ON identities
FOR EACH STATEMENT EXECUTE FUNCTION refuse();

ALTER TABLE identities ENABLE ALWAYS TRIGGER identities_no_change;

ALTER TABLE identities ENABLE ALWAYS TRIGGER identities_no_truncate;

-- SECURITY DEFINER: the role that serves may not write identities. It may make tables of its own in
-- pg_temp, so it must not be able to give them this trigger.

DO $do$ BEGIN EXECUTE format($function$
CREATE FUNCTION append_identities() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
    INSERT INTO %1$I.identities (log_id, stream, event_id, position)
    SELECT added.log_id, added.stream, added.event_id, added.position
    FROM added;
    RETURN NULL;
END $$
$function$, current_schema()); END $do$;

REVOKE ALL ON FUNCTION append_identities() FROM PUBLIC;

CREATE TRIGGER events_identify AFTER INSERT ON events
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION append_identities();

ALTER TABLE events ENABLE ALWAYS TRIGGER events_identify;

-- The positions whose identities 0014 still has to add: `next` and those after it, below `stop`. The
-- trigger is there, and every append before it has ended, so it adds all from `stop` on.

CREATE TABLE identities_left (
    log_id bigint NOT NULL PRIMARY KEY,
    next bigint NOT NULL,
    stop bigint NOT NULL
);

INSERT INTO identities_left (log_id, next, stop)
SELECT log_id, 0, size
FROM log_heads
WHERE size > 0;

CREATE VIEW events_by_stream AS
SELECT
    identities.log_id, identities.stream, identities.event_id, identities.position,
    events.recorded_at_ms, events.entry
FROM identities
JOIN events ON events.log_id = identities.log_id AND events.position = identities.position;

-- The parts of `events` by position; NULL: unbounded. The table is looked up by its name whenever the
-- view is read, because dividing it makes another table of this name.

CREATE VIEW event_partitions AS
SELECT
    CAST(part.relname AS text) AS name,
    CAST(substring(bound.text FROM 'FROM \(''?(-?\d+)') AS bigint) AS start,
    CAST(substring(bound.text FROM 'TO \(''?(-?\d+)') AS bigint) AS stop
FROM pg_class AS part
LEFT JOIN pg_inherits ON pg_inherits.inhrelid = part.oid
CROSS JOIN LATERAL (SELECT pg_get_expr(part.relpartbound, part.oid) AS text) AS bound
WHERE (part.oid = to_regclass('events') AND part.relkind = 'r')
    OR pg_inherits.inhparent = to_regclass('events');
