#!/bin/sh
# Makes the passwords, the signing key and a certificate for a trial, in secrets/. It replaces nothing.
# Keep a copy of secrets/keys in another place: without the key, no log can be continued.
set -eu
cd "$(dirname "$0")"
if [ -e secrets ]; then echo "secrets/ exists: nothing was changed." >&2; exit 1; fi
umask 077
mkdir -p secrets/keys secrets/tls
owner=$(openssl rand -hex 24)
service=$(openssl rand -hex 24)
printf 'POSTGRES_PASSWORD=%s\nSERVICE_PASSWORD=%s\n' "$owner" "$service" >secrets/db.env
printf 'FIRMTRAIL_DATABASE=postgresql://firmtrail_owner:%s@db/firmtrail\n' "$owner" >secrets/migrate.env
printf 'FIRMTRAIL_DATABASE=postgresql://firmtrail_service:%s@db/firmtrail\n' "$service" >secrets/firmtrail.env
openssl genpkey -algorithm ed25519 -out secrets/keys/signing-key.pem
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
	-addext subjectAltName=DNS:localhost -keyout secrets/tls/fleet.key -out secrets/tls/fleet.crt 2>/dev/null
# The container's user reads these two through the folder that is mounted. secrets/ stays closed to others.
chmod 755 secrets/keys
chmod 444 secrets/keys/signing-key.pem
