INSERT INTO shared_keys (name, key)
VALUES ('downloads', lower(hex(randomblob(32))));
