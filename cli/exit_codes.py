"""What the command's exit status tells a script. It must not change: scripts rely on it."""

REFUSED = 1  # refused or failed; one sentence on stderr says why
USAGE = 2  # the command line was not understood
WITH_FAILURES = 3  # finished, and some pictures were not embedded
NO_ANSWER = 4  # no broker or no worker answered
INTERRUPTED = 130  # by Ctrl-C
