"""What pruning needs: indexes, the time a tower was retired, files that may be gone; and autovacuum for large tables.

Workers of the version before work on with it. A role that may not delete from `jobs` and `batches` prunes nothing:
grant the rights of docs/security.md again.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

DDL = """
-- Oldest first, and one after another where several are of one moment: a round of pruning goes on where another ended.
DROP INDEX jobs_by_age;
CREATE INDEX jobs_by_age ON jobs (created_at, id);

-- A batch is deleted only where none names it as parent, which is looked up for each: without this, in the whole table.
CREATE INDEX batches_by_parent ON batches (parent) WHERE parent IS NOT NULL;

-- The files of failures by age; a file that is gone leaves the index.
CREATE INDEX kept_pictures ON failures (created_at) WHERE picture IS NOT NULL;

-- A job with many batches is deleted in several transactions, and is unknown from the first one on.
ALTER TABLE jobs ADD COLUMN pruned_at timestamptz;

ALTER TABLE towers ALTER COLUMN file DROP NOT NULL;
ALTER TABLE towers ADD COLUMN retired_at timestamptz;
UPDATE towers SET retired_at = now() WHERE status IN ('retired', 'rejected');  -- when it was, nobody noted

-- By default a table is vacuumed when a fifth of it is dead: of 10,000,000 batches, 2,000,000. Each batch leaves two or
-- three dead versions, all of which `open_batches` points to, and every claim and sweep reads that index.
ALTER TABLE batches SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE batches SET (toast.autovacuum_vacuum_scale_factor = 0.05);  -- ids of digits, 8 bytes each
-- Deleted with their batches; their number, which `TWINVEC_KEEP_MOST_JOBS` is compared with, is the one ANALYZE found.
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Files of up to 10 MiB: a fifth of these, dead, is much room.
ALTER TABLE failures SET (toast.autovacuum_vacuum_scale_factor = 0.05);

-- Vectors are 0.5 kB each: of 10,000,000, a fifth is 1 GB that stays after its digits are replaced. And counting them,
-- or asking which digits have one, reads the index alone only where a vacuum has passed since they were written.
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
    EXECUTE 'ALTER TABLE embeddings ATTACH PARTITION ' || space || ' FOR VALUES IN (' || tower || ')';
END $$;

DO $$
DECLARE
    leaf regclass;
BEGIN
    -- To replace a function drops the search path it was given.
    EXECUTE 'ALTER FUNCTION create_partition(integer) SET search_path = ' || quote_ident(current_schema())
        || ', pg_temp';
    FOR leaf IN SELECT relid FROM pg_partition_tree('embeddings') WHERE isleaf AND level > 0 LOOP
        EXECUTE 'ALTER TABLE ' || leaf
            || ' SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05)';
    END LOOP;
END $$;
"""


def upgrade() -> None:
    op.execute(DDL)
