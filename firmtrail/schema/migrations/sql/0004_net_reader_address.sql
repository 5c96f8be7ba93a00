-- The network address that a read came from. Null: it was recorded before addresses were.

ALTER TABLE access_record ADD COLUMN address text/*C*/;
