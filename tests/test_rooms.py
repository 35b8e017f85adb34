"""The rules between the rooms: who imports whom, and that code, containers and README agree."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from twinvec_client.contract.broker import LANES
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
CLIENT = "twinvec_client"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT_PROJECT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
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


def loaded_with(*modules: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after importing `modules`."""
    result = python(f"import {', '.join(modules)}, sys; print(*sys.modules)")
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


def modules_of(room: str) -> list[str]:
    """A room's modules, by the names under which they are imported."""
    paths = sorted((ROOT / room).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def layers_of(contract: str) -> set[str]:
    """The modules that a contract on layers puts in order."""
    (found,) = (each for each in CONTRACTS if each["id"] == contract)
    return {name for layer in found["layers"] for name in layer.split(" | ")}


def own_files() -> Iterator[Path]:
    """The project's files: no environment, no cache, no data, no built site."""
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if name == ".ci" or not name.startswith((".", "__"))]
        if Path(folder) == ROOT:
            subfolders[:] = [name for name in subfolders if name != "site"]  # what `make site` builds
        yield from (Path(folder, name) for name in names)


def compose_commands() -> list[list[str]]:
    """The words after `twinvec` of each container of ours."""
    services = yaml.safe_load(COMPOSE)["services"].values()
    return [service["command"] for service in services if service["image"].startswith("twinvec:")]


def own_commands() -> list[str]:
    """The words after `twinvec` that the compose file and the image's health check rely on."""
    health = re.findall(r'CMD \["twinvec", "(\w+)"\]', DOCKERFILE)
    return sorted({command[0] for command in compose_commands()} | set(health))


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_every_room_has_its_place_in_each_list() -> None:
    tools = PROJECT["tool"]
    assert tools["hatch"]["build"]["targets"]["wheel"]["packages"] == ROOMS
    assert tools["hatch"]["build"]["targets"]["sdist"]["only-include"] == ROOMS
    assert set(tools["importlinter"]["root_packages"]) == {*ROOMS, CLIENT}
    assert set(tools["ruff"]["lint"]["isort"]["known-first-party"]) == {*ROOMS, CLIENT}
    assert layers_of("layers") == set(ROOMS)


def test_the_contracts_on_the_rooms_inside_db_and_training_are_exhaustive() -> None:
    """The linter then refuses a module that is in none of their layers."""
    floors = {room: each for each in CONTRACTS if each["type"] == "layers" for room in each.get("containers", [])}
    assert {"db", "training"} <= floors.keys()
    assert all(each["exhaustive"] for each in floors.values())


def test_imports_point_down() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_client_loads_no_tensorflow_no_sql_and_none_of_our_rooms() -> None:
    assert not loaded_with(CLIENT) & (BACKENDS | DRIVERS | set(ROOMS))


def test_the_page_imports_the_client_what_serves_it_and_the_standard_library() -> None:
    allowed = {"web", CLIENT, "jinja2", "starlette", "uvicorn", *sys.stdlib_module_names}
    named = {name.partition(".")[0] for path in (ROOT / "web").rglob("*.py") for name in imported_by(path.read_text())}
    assert named <= allowed
    assert not loaded_with(*modules_of("web")) & {*BACKENDS, *DRIVERS, *ROOMS} - {"web"}


def test_the_parent_of_a_worker_pool_loads_no_tensorflow() -> None:
    """It imports the application and what that includes; a tower is loaded by the pool processes that need one."""
    included = loaded_with("worker.app", *modules_of("tasks"))
    assert {"worker", "tasks", "db", "training"} <= included
    assert not included & BACKENDS


def test_the_application_includes_every_module_with_a_task() -> None:
    tasked = [path for path in (ROOT / "tasks").glob("*.py") if "@app.task" in path.read_text()]
    included = python("from worker.app import app; print(*app.conf.include)").stdout.split()
    assert sorted(included) == sorted(f"tasks.{path.stem}" for path in tasked)


@pytest.mark.parametrize(
    "modules",
    [("cli.calling",), modules_of("db"), modules_of("local"), ("worker.tower_cache",)],
    ids=lambda names: names[0],
)
def test_what_trains_and_compiles_no_tower_loads_no_tensorflow(modules: Sequence[str]) -> None:
    assert not loaded_with(*(name for name in modules if ".migrations" not in name)) & BACKENDS


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


def test_the_page_of_settings_lists_every_one_and_no_other() -> None:
    table = (
        (ROOT / "docs" / "settings.md")
        .read_text()
        .partition("<!-- settings -->")[2]
        .partition("<!-- settings: end -->")[0]
    )
    listed = re.findall(r"^\| `TWINVEC_(\w+)`", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


@pytest.mark.parametrize("block", code_blocks("python"))
def test_python_in_the_readme_compiles(block: str) -> None:
    compile(block, "README.md", "exec")


def test_every_make_target_in_the_readme_is_listed_by_make_help() -> None:
    named = set(re.findall(r"\bmake (\w+)", "\n".join([*code_blocks("sh"), *re.findall(r"`([^`\n]+)`", README)])))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"^  make (\w+)", listed, flags=re.MULTILINE))


def test_the_distributions_are_twinvec_and_its_client() -> None:
    assert [project["project"]["name"] for project in (PROJECT, CLIENT_PROJECT)] == ["twinvec", "twinvec-client"]
    assert PROJECT["project"]["scripts"] == {"twinvec": "cli.main:main"}
    assert "twinvec-client" in PROJECT["project"]["dependencies"]
    assert CLIENT_PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [CLIENT]
    assert len({importlib.metadata.version(name) for name in ("twinvec", "twinvec-client")}) == 1, "both are installed"


def test_both_distributions_carry_one_version() -> None:
    assert PROJECT["project"]["version"] == CLIENT_PROJECT["project"]["version"]


@pytest.mark.parametrize("folder", [*ROOMS, "client", "tests", "benchmarks", "docs"])
def test_every_file_says_first_what_it_is_for(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    assert [str(path.relative_to(ROOT)) for path in paths if not ast.get_docstring(ast.parse(path.read_text()))] == []


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


def test_the_image_is_made_of_every_room() -> None:
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert {*ROOMS, "client"} <= kept


def test_whatever_computes_with_keras_has_it_set_first() -> None:
    """`keras.json` of other days would decide the floats and axes of towers."""
    for path in sorted((ROOT / "training").rglob("*.py")):
        imported = set(imported_by(path.read_text()))
        if path.name != "backend.py" and {"keras", "tensorflow"} & imported and path.name != "devices.py":
            assert "training.backend" in imported, path
