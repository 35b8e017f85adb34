#!/bin/sh
# Writes random passwords for docker-compose.yml into .env, which its owner alone can read; one that is there is kept.
set -eu

umask 077
set -o noclobber
for name in BROKER PRODUCER SUPERUSER OWNER WORKER READER APPLICATION; do
	printf 'TWINVEC_%s_PASSWORD=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done > .env
