"""Run again, one after the other, what failed in the last run of the tests, beside others.

Limits in seconds are the product's, and not those of a machine on which other tests run. What fails again fails this.
pytest's own `--last-failed` does not find tests to whose ids xdist has added a group.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")
GROUP = re.compile(r"@[\w.-]+$")  # which xdist adds to a test's id
MOST = 10  # tests; more do not fail for want of time


def main() -> int:
    failed = sorted({GROUP.sub("", id) for id in json.loads(FAILED.read_text())}) if FAILED.exists() else []
    if not failed or len(failed) > MOST:
        return 1
    print(f"\nAgain, by themselves: {len(failed)} that failed beside others", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
