#!/usr/bin/env bash
# Runs once, when the data volume is new: Temporal gets a role of its own, which makes its own databases.
set -euo pipefail
psql --set=ON_ERROR_STOP=1 --set=password="$TEMPORAL_DB_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
create role temporal login createdb password :'password';
SQL
