"""systemd's units and the Procfile, as `twinvec units` writes them: systemd takes them, and they run what there is."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.outputs import units as texts
from cli.topics import COMMANDS
from local.child import SERVICES
from tests.cli.conftest import Twinvec, twinvec  # noqa: F401  # a fixture
from tests.lacking import lacking
from twinvec_client.contract.broker import LANES

COMMAND = ["/opt/twin vec/100%/bin/twinvec"]  # a space and a percent sign, which mean something in a unit


class Unit(configparser.RawConfigParser):
    """A unit, where a key may stand several times: the last counts here."""

    def __init__(self, text: str) -> None:
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str  # type: ignore[assignment, method-assign]  # keys of units have capitals
        self.read_string(text)


def written(*, user: bool, command: list[str] = COMMAND) -> dict[str, str]:
    return dict(texts.units(texts.Place("/etc/twinvec", command, user=user)))


def services(*, user: bool) -> Iterator[tuple[str, Unit]]:
    return ((name, Unit(text)) for name, text in written(user=user).items() if name.endswith(".service"))


def words_of(unit: Unit) -> list[str]:
    return shlex.split(unit["Service"]["ExecStart"].replace("%%", "%"))


@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
def test_systemd_takes_every_unit(user: bool, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        lacking("systemd-analyze")
    folder, program = tmp_path / "units", tmp_path / "twin vec 100%" / "twinvec"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder.mkdir()
    for name, text in written(user=user, command=[str(program)]).items():
        (folder / name).write_text(text)
    environment = {"SYSTEMD_UNIT_PATH": f"{folder}:", "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [analyze, "verify", *(["--user"] if user else []), *map(str, sorted(folder.iterdir()))]
    verified = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    own = [line for line in verified.stderr.splitlines() if "twinvec" in line]
    assert (verified.returncode, own) == (0, []), verified.stderr


@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
def test_the_services_serve_every_lane_once_and_there_is_one_scheduler(user: bool) -> None:
    called = [words_of(unit) for _, unit in services(user=user)]
    assert {words[0] for words in called} == set(COMMAND)
    lanes = [words[words.index("--lanes") + 1] for words in called if "--lanes" in words]
    assert sorted(",".join(lanes).split(",")) == sorted(LANES)
    assert sorted(words[1] for words in called if words[1] != "worker") == ["beat", "migrate"]


@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
def test_the_target_starts_all_and_stops_all(user: bool) -> None:
    units = written(user=user)
    wanted = set(Unit(units[texts.TARGET])["Unit"]["Wants"].split())
    assert wanted | {texts.MIGRATE} == {name for name, _ in services(user=user)}
    assert all(unit["Unit"]["PartOf"] == texts.TARGET for _, unit in services(user=user))


def test_a_worker_is_started_again_and_has_time_to_give_work_back() -> None:
    for name, unit in services(user=False):
        service = unit["Service"]
        if name != texts.MIGRATE:
            assert service["Restart"] == "always", name
            assert int(service["TimeoutStopSec"]) >= 60, name
            assert "REMAP_SIGTERM=SIGQUIT" in written(user=False)[name], name
            assert unit["Unit"]["After"].split()[-1] == texts.MIGRATE, name
        assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict"), name
        assert service["User"] == "twinvec", name


def test_the_owner_s_url_reaches_the_migration_alone() -> None:
    for name, unit in services(user=False):
        file = Path(unit["Service"]["EnvironmentFile"]).name
        assert file == (texts.OWNER if name == texts.MIGRATE else texts.ENVIRONMENT), name


def test_each_service_has_a_port_of_its_own_for_those_who_watch() -> None:
    ports = re.findall(r"TWINVEC_HTTP_PORT=(\d+)", "".join(written(user=False).values()))
    assert ports == [str(texts.PORT + at) for at in range(len(SERVICES))]


def test_devices_are_the_embedders_alone() -> None:
    place = texts.Place("/etc/twinvec", COMMAND, user=False, gpu=True)
    closed = {name for name, text in texts.units(place) if "PrivateDevices=yes" in text}
    assert closed == {name for name, _ in services(user=False)} - {"twinvec-embedder.service"}


def test_the_command_writes_units_and_keeps_the_settings_that_are_there(twinvec: Twinvec, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "units"
    first = twinvec("units", str(folder))
    assert first.returncode == 0, first.stderr
    settings = folder / texts.ENVIRONMENT
    assert all((folder / name).stat().st_mode & 0o777 == 0o600 for name in (texts.ENVIRONMENT, texts.OWNER))
    settings.write_text("TWINVEC_WATCH=60\n")
    (folder / texts.TARGET).write_text("of another version")
    assert twinvec("units", str(folder)).returncode == 0
    assert settings.read_text() == "TWINVEC_WATCH=60\n"
    assert (folder / texts.TARGET).read_text() == written(user=False)[texts.TARGET]


def test_a_procfile_has_the_same_processes(twinvec: Twinvec) -> None:  # noqa: F811
    said = twinvec("units", "--procfile").stdout
    called = {name: shlex.split(line) for name, _, line in (line.partition(": ") for line in said.splitlines())}
    assert {name: words[1:] for name, words in called.items()} == {
        "release": ["migrate"],
        **{name: list(arguments) for name, arguments in SERVICES.items()},
    }
    assert all(words[1] in COMMANDS for words in called.values())
