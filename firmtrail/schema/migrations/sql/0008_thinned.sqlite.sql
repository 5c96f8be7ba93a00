-- A checkpoint may be deleted once a later one of the same 256 events is there: that covers it, and its
-- note can be signed again. The ends of these blocks are the multiples of 256.

DROP TRIGGER checkpoints_no_delete;

CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints
WHEN NOT EXISTS (
    SELECT 1 FROM checkpoints AS later
    WHERE later.log_id = OLD.log_id
        AND later.size > OLD.size
        AND later.size <= (OLD.size + 255) / 256 * 256)
BEGIN SELECT RAISE(ABORT, 'checkpoints is append-only'); END;

-- Each new checkpoint deletes those of the blocks that have become old, 4096 events and more before the
-- end, since the checkpoint before it. So nobody else needs to delete.

CREATE TRIGGER checkpoints_thin AFTER INSERT ON checkpoints
BEGIN
    DELETE FROM checkpoints
    WHERE log_id = NEW.log_id
        AND size <= (NEW.size - 4096) / 256 * 256
        AND size > (coalesce((
            SELECT max(earlier.size) FROM checkpoints AS earlier
            WHERE earlier.log_id = NEW.log_id AND earlier.size < NEW.size), 0) - 4096) / 256 * 256
        AND EXISTS (
            SELECT 1 FROM checkpoints AS later
            WHERE later.log_id = checkpoints.log_id
                AND later.size > checkpoints.size
                AND later.size <= (checkpoints.size + 255) / 256 * 256);
END;
