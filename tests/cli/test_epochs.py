"""A training's epochs, printed from what its job says."""

import io
from typing import Any

from cli.display.epochs import Epochs
from twinvec_client import JobStatus, TrainingProgress


def status(progress: TrainingProgress | None = None, outcome: dict[str, Any] | None = None) -> JobStatus:
    return JobStatus(
        id="1",
        kind="train",
        collection=None,
        state="finished" if outcome else "running",
        total=None,
        accepted=0,
        succeeded=0,
        unchanged=0,
        failed=0,
        cancelled=0,
        created_at="",
        seconds=0.0,
        message=None,
        progress=progress,
        outcome=outcome,
    )


def at(epoch: int, step: int, seconds: float, **metrics: float) -> JobStatus:
    return status(TrainingProgress(epoch, 2, step, 100, metrics, seconds, remaining=0.0))


def printed(*statuses: JobStatus) -> list[str]:
    stream = io.StringIO()
    with Epochs(stream) as epochs:
        for each in statuses:
            epochs.show(each)
    return stream.getvalue().splitlines()


def test_each_epoch_has_its_heading_and_its_last_line() -> None:
    history = {"loss": [0.25, 0.125], "val_loss": [0.5, 0.25]}
    lines = printed(
        at(1, 50, 1.0, loss=0.5),
        at(1, 100, 2.0, loss=0.25, val_loss=0.5),
        at(2, 100, 5.0, loss=0.125, val_loss=0.25),
        status(outcome={"history": history}),
    )
    assert lines == [
        "Epoch 1/2",
        f"100/100 {'━' * 20} 2s 20ms/step - loss: 0.2500 - val_loss: 0.5000",
        "Epoch 2/2",
        f"100/100 {'━' * 20} 3s 30ms/step - loss: 0.1250 - val_loss: 0.2500",
    ]


def test_the_last_epoch_is_closed_with_what_the_history_says() -> None:
    lines = printed(at(1, 40, 1.0, loss=0.5), status(outcome={"history": {"loss": [0.25]}}))
    assert lines[-1].startswith("100/100")
    assert lines[-1].endswith("loss: 0.2500")


def test_a_training_that_starts_over_says_so_and_counts_its_time_anew() -> None:
    lines = printed(at(2, 50, 9.0, loss=0.5), at(1, 100, 2.0, loss=0.5), at(2, 1, 2.5, loss=0.5))
    assert "starts over" in "".join(lines)
    assert lines[-2].startswith(f"100/100 {'━' * 20} 2s 20ms/step")


def test_following_from_the_middle_starts_with_the_epoch_that_runs() -> None:
    assert printed(at(2, 10, 9.0, loss=0.5))[0] == "Epoch 2/2"
