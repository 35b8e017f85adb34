"""Pictures that applications have left in transactions of their own, until workers take them in.

Workers of the version before work on, and leave them there. A role that may not read and delete them takes none in, and
no worker starts under it: grant the rights of docs/security.md again.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

DDL = """
-- A row is a chunk of one job's pictures, as it would have come through the broker: `Intake`, as msgpack. An
-- application may add rows, and needs to read none.
CREATE TABLE inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job uuid NOT NULL,
    message bytea NOT NULL CHECK (octet_length(message) <= 67108864),
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    taken_until timestamptz,
    refused text
);
CREATE INDEX inbox_by_job ON inbox (job);
ALTER TABLE inbox ALTER COLUMN message SET STORAGE EXTERNAL;  -- pictures do not compress
"""


def upgrade() -> None:
    op.execute(DDL)
