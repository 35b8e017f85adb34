#!/bin/sh
# Writes random passwords for docker-compose.yml into .env, which its owner alone can read; one that is there is kept.
set -eu

umask 077
set -o noclobber
for name in BROKER_PASSWORD PRODUCER_PASSWORD SUPERUSER_PASSWORD OWNER_PASSWORD WORKER_PASSWORD READER_PASSWORD \
	APPLICATION_PASSWORD GRAFANA_PASSWORD WEB_TOKEN; do
	printf 'TWINVEC_%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done > .env
