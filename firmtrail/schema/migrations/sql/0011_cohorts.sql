-- The devices that ever were in a cohort, by id. A page of a cohort's devices finds them without
-- reading the fleet. Reports write nothing here: only a change of a device's labels does.

CREATE INDEX device_attributes_by_cohort
ON device_attributes (log_id, generation, cohort, device)
WHERE cohort IS NOT NULL;
