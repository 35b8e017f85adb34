"""What exact search prunes by: a frame of each tower, and of each vector its cell, small vector, label and collection.

Vectors that are there already stand in no cell: each query compares all of those, until upkeep has placed them. The
filters of a search have indexes of their own. Workers of the version before must be stopped: they do not write the new
columns. A role that may not update labels of vectors cannot relabel: grant the rights of docs/security.md again.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

DDL = """
ALTER TABLE towers ADD COLUMN frame bytea;
ALTER TABLE towers ALTER COLUMN frame SET STORAGE EXTERNAL;  -- to read the first bytes alone

-- Constants: no row is rewritten. Label and hash say what the digit's row says only where a vector has a cell.
ALTER TABLE embeddings ADD COLUMN cell smallint NOT NULL DEFAULT -1, ADD COLUMN small vector,
    ADD COLUMN label integer NOT NULL DEFAULT -1, ADD COLUMN collection_hash integer NOT NULL DEFAULT 0;

-- Digits without attributes are not in it, and cost nothing. What is not merged yet is read by every query: not much.
CREATE INDEX digits_by_attributes ON digits USING gin (attributes jsonb_path_ops)
    WITH (gin_pending_list_limit = 256) WHERE attributes IS NOT NULL;

CREATE FUNCTION prepare_search(tower integer) RETURNS void LANGUAGE plpgsql STRICT AS $$
DECLARE
    space text := quote_ident('embeddings_' || tower);
    segment text := quote_ident('embeddings_' || tower || '_open');
BEGIN
    -- Plain, so that a small vector in the index is compared where it lies, and not copied first.
    EXECUTE 'ALTER TABLE ' || segment || ' ALTER COLUMN small SET STORAGE PLAIN, ALTER COLUMN small SET STATISTICS 0';
    -- With the tower, though a partition has but one: a condition that is not in the index makes a scan read the table.
    EXECUTE 'CREATE INDEX ON ' || space || ' (tower, cell) INCLUDE (digit, small, label, collection_hash)';
    EXECUTE 'CREATE INDEX ON ' || space || ' (tower, collection_hash)';
END $$;
REVOKE EXECUTE ON FUNCTION prepare_search(integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION create_partition(tower integer) RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    space text := quote_ident('embeddings_' || tower);
    segment text := quote_ident('embeddings_' || tower || '_open');
BEGIN
    -- Built beside the table and attached, which blocks no reader and no writer.
    EXECUTE 'CREATE TABLE ' || space || ' (LIKE embeddings INCLUDING DEFAULTS) PARTITION BY RANGE (digit)';
    EXECUTE 'ALTER TABLE ' || space || ' ADD PRIMARY KEY (tower, digit)';
    EXECUTE 'CREATE TABLE ' || segment || ' PARTITION OF ' || space || ' FOR VALUES FROM (MINVALUE) TO (MAXVALUE)'
        || ' WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05)';
    EXECUTE 'ALTER TABLE ' || segment || ' ALTER COLUMN vector SET STORAGE PLAIN, ALTER COLUMN vector SET STATISTICS 0';
    PERFORM prepare_search(tower);
    EXECUTE 'ALTER TABLE embeddings ATTACH PARTITION ' || space || ' FOR VALUES IN (' || tower || ')';
END $$;

DO $$
DECLARE
    tower integer;
BEGIN
    -- To replace a function drops the search path it was given.
    EXECUTE 'ALTER FUNCTION create_partition(integer) SET search_path = ' || quote_ident(current_schema())
        || ', pg_temp';
    EXECUTE 'ALTER FUNCTION prepare_search(integer) SET search_path = ' || quote_ident(current_schema()) || ', pg_temp';
    FOR tower IN SELECT id FROM towers WHERE to_regclass('embeddings_' || id) IS NOT NULL LOOP
        PERFORM prepare_search(tower);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    op.execute(DDL)
