-- Devices whose last report says that an update failed, and the failed offers of each rollout, the
-- newest last. Both are few, so a page finds them without reading the fleet.

CREATE INDEX device_current_failing
ON device_current (log_id, generation, device)
WHERE status IN ('failed', 'rejected');

CREATE INDEX device_offers_failed
ON device_offers (log_id, generation, source, outcome_position)
WHERE outcome = 'failed';
