"""What it takes to judge a tower before it goes live, to turn back to the one before, and to watch both.

Stop the workers of the version before first: they let a candidate go live unjudged, and know no job that judges.
"""

from alembic import op

revision = "0015"
down_revision = "0014"

DDL = """
ALTER TABLE towers
    -- What came of judging it against the live one, with every figure; null while it is not judged.
    ADD COLUMN verdict jsonb,
    -- Who asked for it to go live whatever the verdict.
    ADD COLUMN forced_by text,
    -- When it ceased to be live. Since when it was, `promoted_at` says.
    ADD COLUMN live_until timestamptz,
    -- Of the previous one: whether new digits get a vector under it.
    ADD COLUMN maintained boolean NOT NULL DEFAULT false,
    -- Of the previous one: since when it is to go live again, as soon as it lacks no vector.
    ADD COLUMN rollback_asked_at timestamptz;
UPDATE towers SET live_until = now() WHERE status = 'previous';

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('embed', 'backfill', 'train', 'judge'));
CREATE UNIQUE INDEX one_judging ON jobs (kind) WHERE kind = 'judge' AND ended_at IS NULL;

-- By how much stored vectors differed at most from what a worker computed of the same pixels; null where not finite.
CREATE TABLE canaries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checked_at timestamptz NOT NULL DEFAULT now(),
    tower integer NOT NULL,
    worker text NOT NULL,
    digits integer NOT NULL,
    worst double precision
);

-- Of some of the digits that came on a day, how many were farther from their nearest neighbour than the threshold.
CREATE TABLE drift (
    day date NOT NULL,
    collection text NOT NULL,
    tower integer NOT NULL,
    looked_at integer NOT NULL,
    far integer NOT NULL,
    last_digit bigint NOT NULL,
    PRIMARY KEY (day, collection, tower)
);

-- Some of what was looked up while a candidate was filled: it is asked under both towers when that one is judged.
CREATE TABLE asked_queries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asked_at timestamptz NOT NULL DEFAULT now(),
    glyph bytea NOT NULL CHECK (octet_length(glyph) = 784)
);
"""


def upgrade() -> None:
    op.execute(DDL)
