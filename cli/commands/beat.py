"""`twinvec beat`: the scheduler in the foreground. Its schedule is in the settings; it keeps none of its own."""

from __future__ import annotations

from cli import starting
from worker.app import app
from worker.beats import announcing
from worker.scheduler import serving_beat
from worker.settings import Settings


def beat() -> None:
    """Run the scheduler in the foreground.

    It publishes the sweep every few seconds, and a retraining where TWINVEC_TRAIN_CRON is set. Run one per
    installation; two do no harm, and `twinvec doctor` names them.

    \b
    Example:
      TWINVEC_TRAIN_CRON="0 3 * * *" twinvec beat
    """
    settings = Settings()
    url = settings.guarded_broker()
    starting.check_broker(url)
    starting.check_lanes(url, settings)
    with announcing(settings), serving_beat(settings):
        app.Beat(scheduler="worker.scheduler:NotingScheduler", loglevel="INFO", quiet=True).run()
