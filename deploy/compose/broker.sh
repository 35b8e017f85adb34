#!/bin/sh
# Starts the broker with the users of docs/security.md. Passwords come from the environment and reach no command line:
# the file of users holds their SHA-256 alone, and lies in memory.
set -eu

hashed() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

umask 077
cat > /run/twinvec/users.acl <<USERS
user default off
user twinvec-worker reset on #$(hashed "$TWINVEC_BROKER_PASSWORD") ~twinvec:* &twinvec:celery-task-meta-* &twinvec:job-* &twinvec:/0.celeryev/* +ping +info +time +select +client|setinfo +multi +exec +watch +unwatch +lpush +rpush +rpop +brpop +llen +type +sadd +hset +hget +hdel +zadd +zrem +zrange +set +setex +get +mget +del +publish +subscribe +unsubscribe +evalsha +script|load +pubsub|numsub
user twinvec-producer reset on #$(hashed "$TWINVEC_PRODUCER_PASSWORD") %W~twinvec:intake* %W~twinvec:express* %W~twinvec:control* %W~twinvec:query* %R~twinvec:celery-task-meta-* &twinvec:celery-task-meta-* &twinvec:job-* +ping +select +client|setinfo +multi +exec +lpush +llen +get +mget +subscribe +unsubscribe (%W~twinvec:_kombu.binding* +sadd)
USERS

# A full broker refuses; it never drops a message.
exec valkey-server --aclfile /run/twinvec/users.acl --dir /data --appendonly yes --maxmemory-policy noeviction
