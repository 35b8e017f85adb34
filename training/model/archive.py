"""What a `.keras` file may hold, looked at before anything of it is built. It must not load Keras."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from training.errors import TowerError

MAX_FILE_BYTES = 256 * 2**20

# All that a tower is made of, as `folding` leaves it. Each is Keras's own and computes; none of them can carry code.
PLAIN = {
    "keras": {"Sequential", "DTypePolicy"},
    "keras.layers": {"Conv2D", "Dense", "Flatten", "InputLayer", "Reshape"},
    "keras.initializers": {"GlorotUniform", "Zeros"},
}


def check_plain(file: Path | IO[bytes]) -> dict[str, Any]:
    """The configuration of the model in a `.keras` archive.

    Raises TowerError unless it is one, of moderate size, and its model of plain layers.
    """
    if not zipfile.is_zipfile(file):
        raise TowerError("this is not a `.keras` file")
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise TowerError(f"a tower file that unpacks to {unpacked:,} bytes: at most {MAX_FILE_BYTES:,} are loaded")
        config: dict[str, Any] = json.loads(archive.read("config.json"))
    for module, name, registered in classes_in(config):
        if registered is not None or name not in PLAIN.get(str(module), ()):
            raise TowerError(f"this file holds a {name} of {module}: a tower is made of Keras's plain layers alone")
    return config


def classes_in(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(module, class name, registered name) of everything that loading this configuration would build."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config.get("module"), config["class_name"], config.get("registered_name")
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from classes_in(value)
