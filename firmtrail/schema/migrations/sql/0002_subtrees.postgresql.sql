-- Statistics that the planner needs before the first row comes: see 0001_own.postgresql.sql.

ALTER TABLE subtrees
    ALTER COLUMN log_id SET (n_distinct = 1);

INSERT INTO subtrees (
    log_id, level, number, hash)
VALUES
    (0, 0, 0, ''),
    (1, 1, 1, 'a');

ANALYZE subtrees;

SAVEPOINT filled;

TRUNCATE subtrees;

RELEASE SAVEPOINT filled;

CREATE TRIGGER subtrees_no_change BEFORE UPDATE OR DELETE ON subtrees
FOR EACH ROW EXECUTE FUNCTION refuse();

CREATE TRIGGER subtrees_no_truncate BEFORE TRUNCATE ON subtrees
FOR EACH STATEMENT EXECUTE FUNCTION refuse();

ALTER TABLE subtrees ENABLE ALWAYS TRIGGER subtrees_no_change;

ALTER TABLE subtrees ENABLE ALWAYS TRIGGER subtrees_no_truncate;
