"""The rules between the rooms: who imports whom, and that code, containers and README agree."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinvec_client.contract.broker import LANES
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("cli", "db", "local", "tasks", "training", "worker")
BACKENDS = {"keras", "tensorflow", "jax", "torch"}
DRIVERS = {"sqlalchemy", "psycopg"}

README = (ROOT / "README.md").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def loaded_with(module: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after importing `module`."""
    result = python(f"import {module}, sys; print(*sys.modules)")
    assert result.returncode == 0, result.stderr
    return {name.partition(".")[0] for name in result.stdout.split()}


def imported_by(code: str) -> Iterator[str]:
    """The modules that code imports anywhere in it: by a statement, or by `import_module` with the name written out."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def own_files() -> Iterator[Path]:
    """The project's files: no environment, no cache, no data."""
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if name == ".ci" or not name.startswith((".", "__"))]
        yield from (Path(folder, name) for name in names)


def compose_commands() -> list[list[str]]:
    return [json.loads(command) for command in re.findall(r"command: (\[.*\])", COMPOSE)]


def own_commands() -> list[str]:
    """The words after `twinvec` that the compose file and the image's health check rely on."""
    health = re.findall(r'CMD \["twinvec", "(\w+)"\]', DOCKERFILE)
    return sorted({command[0] for command in compose_commands()} | set(health))


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_imports_point_down() -> None:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_client_loads_no_tensorflow_no_sql_and_none_of_our_rooms() -> None:
    assert not loaded_with("twinvec_client") & (BACKENDS | DRIVERS | set(ROOMS))


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_no_tensorflow(room: str) -> None:
    assert not loaded_with(room) & BACKENDS


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_names_one_backend_to_import(room: str) -> None:
    """Keras picks the backend; what only one of them can do is asked of the module that Keras has loaded."""
    named = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in imported_by(path.read_text())
        if name.partition(".")[0] in BACKENDS - {"keras"}
    ]
    assert named == []


@pytest.mark.parametrize(
    "code", ["import torch", "if GPU:\n    from jax import numpy", "import_module('tensorflow.config')"]
)
def test_naming_a_backend_is_noticed(code: str) -> None:
    assert {name.partition(".")[0] for name in imported_by(code)} & BACKENDS


def test_the_workers_in_compose_serve_every_lane_and_no_other() -> None:
    lanes = [command[command.index("--lanes") + 1] for command in compose_commands() if "--lanes" in command]
    assert set(",".join(lanes).split(",")) == set(LANES)


@pytest.mark.parametrize("command", own_commands())
def test_every_command_of_the_containers_exists(command: str) -> None:
    result = python("from cli.main import main; main()", command, "--help")
    assert result.returncode == 0, result.stderr


def test_the_readme_lists_every_setting_and_no_other() -> None:
    table = README.partition("<!-- settings -->")[2].partition("<!-- settings: end -->")[0]
    listed = re.findall(r"^\| `TWINVEC_(\w+)`", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


@pytest.mark.parametrize("block", code_blocks("python"))
def test_python_in_the_readme_compiles(block: str) -> None:
    compile(block, "README.md", "exec")


def test_every_make_target_in_the_readme_is_listed_by_make_help() -> None:
    named = set(re.findall(r"\bmake (\w+)", "\n".join([*code_blocks("sh"), *re.findall(r"`([^`\n]+)`", README)])))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"^  make (\w+)", listed, flags=re.MULTILINE))


def test_both_distributions_carry_one_version() -> None:
    versions = {
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (".", "client")
    }
    assert len(versions) == 1


@pytest.mark.parametrize("requirements", REQUIREMENTS, ids=lambda path: path.stem)
def test_requirements_are_pinned_by_hash_and_name_no_address(requirements: Path) -> None:
    text = re.sub(r"^\s*#.*\n", "", requirements.read_text(), flags=re.MULTILINE)
    assert "://" not in text
    assert "--index-url" not in text
    for requirement in text.replace("\\\n", " ").splitlines():
        assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


def test_no_file_names_a_package_registry() -> None:
    registry = re.compile(rb"\b(?:pyp[i]|pythonhoste[d]|npmj[s]|debia[n])\.(?:org|io|com)\b", flags=re.IGNORECASE)
    naming = [path.relative_to(ROOT) for path in own_files() if registry.search(path.read_bytes())]
    assert naming == []
