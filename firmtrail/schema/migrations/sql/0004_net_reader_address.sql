-- The network address that a read came from. Null: the row is older than this
-- column.

ALTER TABLE access_record ADD COLUMN address text/*C*/;
