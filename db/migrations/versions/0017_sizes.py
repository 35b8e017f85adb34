"""How many digits a batch has, beside their ids, so that nothing reads the ids to count them; and whose turn it is.

Adding the column writes the table anew: a second for some ten thousand batches. Workers of the version before work on
with it. No right has to be granted.
"""

from alembic import op

revision = "0017"
down_revision = "0016"

DDL = """
ALTER TABLE batches ADD COLUMN size integer GENERATED ALWAYS AS (cardinality(digits)) STORED;
CREATE INDEX queued_batches ON batches (job, id) WHERE state = 'queued';  -- the oldest of each job, without the others
CREATE INDEX small_batches ON batches (id) WHERE state = 'queued' AND size <= 16;
"""


def upgrade() -> None:
    op.execute(DDL)
