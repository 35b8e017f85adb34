"""The name of the installation, which its workers compare with what stands in their broker.

Workers of the version before work on with it.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

DDL = """
-- One row: which ledger this is. A copy and a restored backup are the same one.
CREATE TABLE installation (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
CREATE UNIQUE INDEX one_installation ON installation ((true));
INSERT INTO installation DEFAULT VALUES;
"""


def upgrade() -> None:
    op.execute(DDL)
