-- The roles of docs/security.md, made when the database's volume is new. Passwords come from the environment of the
-- server's container and reach no command line; `twinvec migrate` gives the rights.
\set ON_ERROR_STOP on
\getenv owner TWINVEC_OWNER_PASSWORD
\getenv worker TWINVEC_WORKER_PASSWORD
\getenv reader TWINVEC_READER_PASSWORD
\getenv application TWINVEC_APPLICATION_PASSWORD

CREATE ROLE twinvec_owner LOGIN PASSWORD :'owner';
CREATE ROLE twinvec_worker LOGIN PASSWORD :'worker';
CREATE ROLE twinvec_reader LOGIN PASSWORD :'reader';
CREATE ROLE twinvec_application LOGIN PASSWORD :'application';
CREATE DATABASE twinvec OWNER twinvec_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE twinvec FROM PUBLIC;
GRANT CONNECT ON DATABASE twinvec TO twinvec_worker, twinvec_reader, twinvec_application;

\connect twinvec

CREATE EXTENSION vector;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO twinvec_owner;
GRANT USAGE ON SCHEMA public TO twinvec_worker, twinvec_reader, twinvec_application;
REVOKE EXECUTE ON FUNCTION
    pg_advisory_lock(bigint), pg_advisory_lock(integer, integer),
    pg_advisory_lock_shared(bigint), pg_advisory_lock_shared(integer, integer),
    pg_try_advisory_lock(bigint), pg_try_advisory_lock(integer, integer),
    pg_try_advisory_lock_shared(bigint), pg_try_advisory_lock_shared(integer, integer),
    pg_advisory_xact_lock(bigint), pg_advisory_xact_lock(integer, integer),
    pg_advisory_xact_lock_shared(bigint), pg_advisory_xact_lock_shared(integer, integer),
    pg_try_advisory_xact_lock(bigint), pg_try_advisory_xact_lock(integer, integer),
    pg_try_advisory_xact_lock_shared(bigint), pg_try_advisory_xact_lock_shared(integer, integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(bigint) TO twinvec_owner;
GRANT EXECUTE ON FUNCTION
    pg_advisory_xact_lock(bigint), pg_advisory_xact_lock(integer, integer),
    pg_advisory_xact_lock_shared(bigint), pg_try_advisory_xact_lock(bigint)
    TO twinvec_worker;
