"""Which stored digits each tower was trained on: who deletes one is told which towers have learnt from it.

Towers of before are unknown in this. The worker's role needs the rights of docs/security.md again.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

DDL = """
CREATE TABLE learnt (
    digit bigint NOT NULL,  -- names no row: what was learnt stays in the tower when its digit is deleted
    tower integer NOT NULL REFERENCES towers ON DELETE CASCADE,
    PRIMARY KEY (digit, tower)
);
CREATE INDEX learnt_by_tower ON learnt (tower);
"""


def upgrade() -> None:
    op.execute(DDL)
