"""What it takes to mark digits that do not look like what their tower was trained on.

Workers of the version before work on with it, and mark none.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

DDL = """
-- As `training.fit.gate` writes it; null of a tower that was trained before.
ALTER TABLE towers ADD COLUMN gate bytea;
ALTER TABLE towers ALTER COLUMN gate SET STORAGE EXTERNAL;

-- Null: not asked, for the pixels were taken as they were sent.
ALTER TABLE digits ADD COLUMN doubtful boolean;
CREATE INDEX digits_doubtful ON digits (job, key) WHERE doubtful;
"""


def upgrade() -> None:
    op.execute(DDL)
