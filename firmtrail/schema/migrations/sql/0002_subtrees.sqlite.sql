-- An INSERT must be the next subtree of its level, because INSERT OR REPLACE fires no DELETE
-- trigger: see 0001_own.sqlite.sql.

CREATE TRIGGER subtrees_no_update BEFORE UPDATE ON subtrees
BEGIN SELECT RAISE(ABORT, 'subtrees is append-only'); END;

CREATE TRIGGER subtrees_no_delete BEFORE DELETE ON subtrees
BEGIN SELECT RAISE(ABORT, 'subtrees is append-only'); END;

CREATE TRIGGER subtrees_append BEFORE INSERT ON subtrees
WHEN NEW.number IS NOT (
        SELECT coalesce(max(number), -1) + 1 FROM subtrees
        WHERE log_id = NEW.log_id AND level = NEW.level)
BEGIN SELECT RAISE(ABORT, 'subtrees is append-only'); END;
