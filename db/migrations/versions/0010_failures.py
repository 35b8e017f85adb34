"""A failure for each reason: what failed under a key is listed beside what else failed under it.

Workers of the version before must be stopped: they record failures by job and key alone.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

DDL = """
ALTER TABLE failures DROP CONSTRAINT failures_pkey, ADD PRIMARY KEY (job, key, reason);
"""


def upgrade() -> None:
    op.execute(DDL)
