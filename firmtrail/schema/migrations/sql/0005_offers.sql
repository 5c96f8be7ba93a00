-- The number of an offer among the offers of its device, the numbers that it had before it was made
-- again, and how the device ended it without an outcome.

ALTER TABLE device_offers ADD COLUMN ordinal bigint NOT NULL DEFAULT 0;

ALTER TABLE device_offers ADD COLUMN earlier_ordinals text/*C*/ NOT NULL DEFAULT '';

ALTER TABLE device_offers ADD COLUMN ending text/*C*/;
