"""What it takes to try a batch that fails with an exception later and later, and to give it up at last.

Workers of the version before work on with it, and try such a batch at their own pace.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

DDL = """
-- How often its work ended with an exception, and until when it is not tried again after the last one.
ALTER TABLE batches ADD COLUMN errors integer NOT NULL DEFAULT 0, ADD COLUMN retry_at timestamptz;
"""


def upgrade() -> None:
    op.execute(DDL)
