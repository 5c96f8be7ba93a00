-- The oldest schema revision whose code may read and write this schema. Code from before 0004 does not
-- read this column.

ALTER TABLE instance ADD COLUMN compatible_from text/*C*/;
