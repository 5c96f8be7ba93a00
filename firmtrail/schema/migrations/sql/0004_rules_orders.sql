-- Orders and asks of a device have a place in the device's order. A device starts a new count when it
-- is restored or its hardware is replaced.

ALTER TABLE device_current ADD COLUMN counting_place bigint NOT NULL DEFAULT 0;

ALTER TABLE device_current ADD COLUMN registered_at_ms bigint NOT NULL DEFAULT 0;

ALTER TABLE device_current ADD COLUMN is_ordered bigint NOT NULL DEFAULT 0;

-- The version that a device installs by its report that was recorded last, and that report's time.

ALTER TABLE device_current ADD COLUMN installing_version text/*C*/;

ALTER TABLE device_current ADD COLUMN installing_ms bigint;

ALTER TABLE device_history ADD COLUMN order_position bigint;

ALTER TABLE device_history ADD COLUMN failed_model text/*C*/;

ALTER TABLE device_offers ADD COLUMN model text/*C*/ NOT NULL DEFAULT '';

ALTER TABLE device_offers ADD COLUMN place bigint NOT NULL DEFAULT -1;

ALTER TABLE device_offers ADD COLUMN cleared_place bigint NOT NULL DEFAULT -1;

ALTER TABLE device_asks ADD COLUMN place bigint NOT NULL DEFAULT -1;
