"""The soak's tables for docs/reliability.md, made of what was measured. It must not measure."""

import re
from collections.abc import Iterable, Iterator, Sequence

from local.servers.logs import KEPT, LARGEST
from tests.soak.soak import Soak
from tests.soak.trend import Trend, trend

WARM_UP = 10.0  # minutes, in which caches fill and the first jobs grow old enough to be pruned

SLIGHT = {  # what is not growth, an hour, by what is measured
    "resident": 1.0,  # MB
    "descriptors": 1.0,
    "threads": 1.0,
    "processes": 0.5,
}
MB = 1.0
