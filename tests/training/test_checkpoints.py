"""A training that was cut off goes on from its last whole epoch, and comes out the same to the bit."""

from dataclasses import replace

import pytest

from training.data.dataset import Dataset
from training.errors import TrainingError
from training.fit import checkpoints
from training.fit.checkpoints import Checkpoint
from training.fit.progress import Progress
from training.fit.train import train
from training.recipes import DEFAULT, NOTEBOOK, Recipe

pytestmark = pytest.mark.usefixtures("costly", "every_epoch")

DRAWN = replace(NOTEBOOK, epochs=3)
BATCHED = replace(DEFAULT, epochs=4)  # it distorts, normalises, and lowers its learning rate


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch is kept, however long that takes."""
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def cut_off(recipe: Recipe, data: Dataset, epoch: int) -> dict[int, bytes]:
    """Train until the end of an epoch has been kept, and no further; what was kept."""
    kept: dict[int, bytes] = {}

    def keep(over: int, file: bytes) -> None:
        kept[over] = file
        if over == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, seed=5, on_checkpoint=keep)
    return kept


@pytest.mark.parametrize(("recipe", "epoch"), [(DRAWN, 1), (BATCHED, 2), (BATCHED, 4)])
def test_a_training_that_goes_on_comes_out_as_one_that_was_not_cut_off(
    sample: Dataset, recipe: Recipe, epoch: int
) -> None:
    whole = train(recipe, sample, seed=5)
    kept = cut_off(recipe, sample, epoch)
    assert list(kept) == list(range(1, epoch + 1))
    seen: list[Progress] = []
    resumed = train(recipe, sample, seed=5, checkpoint=kept[epoch], on_progress=seen.append)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.history == whole.history
    assert resumed.metrics["resumed_after_epoch"] == epoch
    assert [each.epoch for each in seen if each.step == each.steps] == list(range(epoch + 1, recipe.epochs + 1))
    assert all(each.seconds > Checkpoint.read(kept[epoch]).seconds for each in seen)


def test_a_stopped_training_keeps_the_best_epoch_of_before_it_was_cut_off(sample: Dataset) -> None:
    kept = cut_off(BATCHED, sample, 2)
    before = Checkpoint.read(kept[2])
    better = replace(before, best_loss=-1.0, best_epoch=1, best_weights=[each * 0 + 1 for each in before.weights])
    stopped = train(BATCHED, sample, seed=5, checkpoint=better.write(), should_stop=lambda: True)
    assert stopped.metrics["kept_epoch"] == 1
    assert (stopped.tower.get_weights()[-1] != 0).all()


def test_the_checkpoint_of_another_training_is_not_used(sample: Dataset) -> None:
    file = cut_off(DRAWN, sample, 1)[1]
    relabelled = replace(sample, train_labels=sample.train_labels[::-1])
    for recipe, data, seed, checkpoint in (
        (replace(DRAWN, learning_rate=2e-3), sample, 5, file),
        (DRAWN, relabelled, 5, file),
        (DRAWN, sample, 6, file),
        (DRAWN, sample, 5, b"?"),
    ):
        trained = train(recipe, data, seed=seed, checkpoint=checkpoint, should_stop=lambda: True)
        assert "resumed_after_epoch" not in trained.metrics


def test_a_damaged_checkpoint_says_so() -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        Checkpoint.read(b"PK\x03\x04 and no more")
