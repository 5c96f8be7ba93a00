#!/bin/sh
# PostgreSQL runs this when its folder is new: it creates the role that Firmtrail serves with.
set -eu
psql --set=ON_ERROR_STOP=1 --set="password=$SERVICE_PASSWORD" --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE firmtrail_service LOGIN PASSWORD :'password';
SQL
