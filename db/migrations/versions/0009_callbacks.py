"""What it takes to call back later and later where a callback cannot be delivered, and to give it up at last.

Workers of the version before work on with it, and call such a one at every sweep.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

DDL = """
-- How often its call failed since the job ended, with what the last time, until when it is not tried again, and when it
-- was given up.
ALTER TABLE jobs
    ADD COLUMN callback_errors integer NOT NULL DEFAULT 0,
    ADD COLUMN callback_message text,
    ADD COLUMN callback_retry_at timestamptz,
    ADD COLUMN callback_given_up_at timestamptz;
"""


def upgrade() -> None:
    op.execute(DDL)
