-- gen_random_uuid draws from the system's source of strong randomness.

INSERT INTO shared_keys (name, key)
VALUES ('downloads', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''));
