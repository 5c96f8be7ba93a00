-- The oldest revision of the code's schema whose servers may read and write this one; none before
-- 0004 looks at it.

ALTER TABLE instance ADD COLUMN compatible_from text/*C*/;
