"""Where `twinvec demo` puts its stack: never over another installation, and on a port that is free."""

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.demo import demo
from cli.errors import CommandError
from worker.runfile import RunFile


def test_a_home_that_the_demo_did_not_make_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(CommandError, match=r"did not make.*TWINVEC_HOME=") as refusal:
        demo._claim(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_home_that_the_demo_made_is_found_again(tmp_path: Path) -> None:
    demo._claim(tmp_path / "home")
    (tmp_path / "home" / "postgres").mkdir()
    demo._claim(tmp_path / "home")


@pytest.mark.parametrize("taken", [True, False])
def test_the_broker_takes_a_free_port_where_another_program_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: bool
) -> None:
    asked = []

    def start(home: Path, *, broker_port: int, environment: Mapping[str, str]) -> RunFile:
        asked.append((broker_port, set(environment) & {"TWINVEC_DATA", "TWINVEC_BROKER_URL"}))
        return RunFile("redis://x", "postgresql://x", supervisor=1, created=0.0)

    monkeypatch.setattr(demo, "start_detached", start)
    monkeypatch.setenv("TWINVEC_DATA", "elsewhere")
    monkeypatch.setenv("TWINVEC_BROKER_URL", "redis://elsewhere")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        if not taken:
            other.close()
        demo._start(tmp_path, port)
    assert asked == [(0 if taken else port, set())]
    assert (f"port {port} is taken by another program" in capsys.readouterr().err) == taken
