"""The plots of a training, drawn here from the tower in the database. Importing this loads TensorFlow."""

from __future__ import annotations

from pathlib import Path

from cli.display.console import err
from cli.errors import CommandError
from db.engine import connect, transact
from db.tables import Tower
from db.vectors import towers
from training.data.files import load_configured
from training.model.storage import load
from training.report import notebook
from worker.settings import Settings


def draw(id: int, folder: Path) -> list[Path]:
    """The files drawn of tower `id`. Raises CommandError if this machine lacks the database or the tower's data."""
    settings = Settings()
    tower = _stored(settings, id)
    data = load_configured(settings.data, settings.mnist, transposed=settings.data_transposed)
    if data.digest != tower.data_digest:
        raise CommandError(
            f"tower {id} was trained on other glyphs than {data.source}: set TWINVEC_DATA as its worker has it"
        )
    if tower.file is None:
        raise CommandError(f"the file of tower {id} is pruned: it is {tower.status}")
    model = load(tower.file)
    paths = notebook.draw(model, data, tower.history, folder, threshold=tower.threshold, seed=tower.seed)
    try:
        paths.append(notebook.draw_architecture(model, folder / "architecture.png", pairs=tower.settings["pairs"]))
    except notebook.NoGraphviz as missing:
        err.print(str(missing))
    return paths


def _stored(settings: Settings, id: int) -> Tower:
    url = settings.database()
    if url is None:
        raise CommandError("plots are drawn from the tower in the database: set TWINVEC_DATABASE_URL")
    engine = connect(url)
    try:
        return transact(engine, towers.with_file, id)
    finally:
        engine.dispose()
