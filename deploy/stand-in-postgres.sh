#!/bin/bash
# Starts PostgreSQL as the entrypoint of its official image does, as far as docker-compose.yml relies on it: the first
# start makes the cluster with POSTGRES_PASSWORD and runs /docker-entrypoint-initdb.d. Only deploy/prove.sh uses it.
set -euo pipefail

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chown -R postgres "$PGDATA" /var/run/postgresql
	exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb --username=postgres --pwfile=<(printf %s "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 --auth-local=trust
	echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
	pg_ctl --wait --options="-c listen_addresses='' -k /var/run/postgresql" start
	for script in /docker-entrypoint-initdb.d/*.sql; do
		psql --host /var/run/postgresql --username postgres --no-password --no-psqlrc --set ON_ERROR_STOP=1 --file "$script"
	done
	pg_ctl --wait --mode=fast stop
fi

exec "$@" -c listen_addresses='*' -k /var/run/postgresql
