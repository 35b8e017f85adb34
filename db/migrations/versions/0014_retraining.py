"""Trainings that go on after their worker died, and what each tower was made of.

Workers of the version before work on with it, and start a training over. A role that may not read and write the new
table cannot train, and no worker starts under it: grant the rights of docs/security.md again.
"""

from alembic import op

revision = "0014"
down_revision = "0012"

DDL = """
-- Of a training that is under way: the stored digits that it learns from, by their labels at its start; the images of
-- the data set that it leaves out; the judged pairs, two digits for each; and what it goes on from after its last whole
-- epoch.
CREATE TABLE checkpoints (
    job uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    digits bigint[] NOT NULL,
    labels integer[] NOT NULL,
    left_out integer[] NOT NULL,
    pairs bigint[] NOT NULL,
    same boolean[] NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    state bytea
);
ALTER TABLE checkpoints ALTER COLUMN state SET STORAGE EXTERNAL;  -- weights do not compress

-- What it was trained on, by which versions, and who or what started that.
ALTER TABLE towers ADD COLUMN lineage jsonb;
"""


def upgrade() -> None:
    op.execute(DDL)
