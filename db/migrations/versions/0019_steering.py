"""Lanes and jobs that are paused, and who asked for what; and batches found by when they ended, for rates.

Stop the workers of the version before first: they know no pause. A role that may not read and write the two tables
cannot pause, and no worker starts under it: grant the rights of docs/security.md again.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

DDL = """
-- The last pause of a lane. While `resumed_at` is null it holds the lane's batches back, or those above `upto` alone.
CREATE TABLE lane_pauses (
    lane text PRIMARY KEY CHECK (lane IN ('intake', 'embed', 'backfill', 'train')),
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    why text,
    upto bigint,
    resumed_by text,
    resumed_at timestamptz
);

ALTER TABLE jobs
    ADD COLUMN paused_by text,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_because text,
    ADD CHECK ((paused_at IS NULL) = (paused_by IS NULL));

-- Who asked for what, of which it is told afterwards. The same again, right after, is counted in `times`.
CREATE TABLE actions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    by text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    details jsonb,
    times integer NOT NULL DEFAULT 1
);

CREATE INDEX batches_by_end ON batches (finished_at) WHERE state = 'done';
"""


def upgrade() -> None:
    op.execute(DDL)
