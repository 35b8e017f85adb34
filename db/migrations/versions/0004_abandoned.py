"""What it takes to end jobs whose client has gone: when that was, and an index of the jobs that may still receive. And
autovacuum for digits that are replaced.

Workers of the version before work on with it.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

DDL = """
-- When a job was ended because no chunk came any more; a chunk that comes after all takes it back.
ALTER TABLE jobs ADD COLUMN abandoned_at timestamptz;

-- Whether chunks may be still to come: false is sure. Of the stored jobs that is true of few, and the others are not
-- rewritten. Those of a worker of the version before are looked at once, when they are old enough.
ALTER TABLE jobs ADD COLUMN receiving boolean NOT NULL DEFAULT false;
ALTER TABLE jobs ALTER COLUMN receiving SET DEFAULT true;
UPDATE jobs SET receiving = true
WHERE kind = 'embed' AND cancelled_at IS NULL AND pruned_at IS NULL
    AND (chunks IS NULL OR chunks > (SELECT count(seq) FROM batches WHERE job = jobs.id));
CREATE INDEX receiving_jobs ON jobs (created_at) WHERE kind = 'embed' AND receiving;

-- A digit that is replaced leaves as many dead rows as its vector: of 10,000,000, a fifth would be 2 GB.
ALTER TABLE digits SET (autovacuum_vacuum_scale_factor = 0.05);
"""


def upgrade() -> None:
    op.execute(DDL)
