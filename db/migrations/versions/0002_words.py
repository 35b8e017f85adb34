"""Renames only: times end in `_at`, the kind `fill` becomes `backfill`, spaces become partitions.

Workers of the version before do not know these names: stop them, migrate, start the new ones.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

DDL = """
ALTER TABLE towers RENAME COLUMN created TO created_at;
ALTER TABLE towers RENAME COLUMN promoted TO promoted_at;
ALTER TABLE digits RENAME COLUMN created TO created_at;
ALTER TABLE jobs RENAME COLUMN created TO created_at;
ALTER TABLE jobs RENAME COLUMN cancelled TO cancelled_at;
ALTER TABLE jobs RENAME COLUMN ended TO ended_at;
ALTER TABLE jobs RENAME COLUMN announced TO called_back_at;
ALTER TABLE batches RENAME COLUMN created TO created_at;
ALTER TABLE batches RENAME COLUMN finished TO finished_at;
ALTER TABLE batches RENAME COLUMN rung TO published_at;
ALTER TABLE failures RENAME COLUMN created TO created_at;
ALTER INDEX unannounced_jobs RENAME TO jobs_to_call_back;

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
UPDATE jobs SET kind = 'backfill' WHERE kind = 'fill';
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('embed', 'backfill', 'train'));

-- Messages with the old task names are never run: every queued batch is published again under the new names.
UPDATE batches SET published_at = NULL WHERE state = 'queued';

ALTER FUNCTION open_space(integer) RENAME TO create_partition;
ALTER FUNCTION close_space(integer) RENAME TO drop_partition;
"""


def upgrade() -> None:
    op.execute(DDL)
