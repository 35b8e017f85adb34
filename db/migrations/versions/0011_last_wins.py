"""Which chunk brought a digit: of a key that a job repeats the last picture is kept, in whatever order they come.

Workers of the version before work on with it, and keep the first.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

DDL = """
-- The number of the chunk that brought its pixels; unknown of those stored before.
ALTER TABLE digits ADD COLUMN seq integer;

-- Of a chunk that overtook another: digits that it brought again as they were stored.
ALTER TABLE batches ADD COLUMN unchanged_digits bigint[];
"""


def upgrade() -> None:
    op.execute(DDL)
