"""The embedded servers, started for real: what they keep, what they survive, and how they refuse."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from local.servers import EmbeddedError, Servers


def write(servers: Servers, value: str) -> None:
    redis.Redis.from_url(servers.broker_url).set("note", value)
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (value text)")
        connection.execute("INSERT INTO notes VALUES (%s)", [value])


def read(servers: Servers) -> tuple[str, list[str]]:
    note = str(redis.Redis.from_url(servers.broker_url, decode_responses=True).get("note"))
    with psycopg.connect(servers.database_url) as connection:
        return note, [value for (value,) in connection.execute("SELECT value FROM notes")]


def start_in_a_killed_process(home: Path) -> None:
    """Start servers in a process of its own and kill that with -9."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom local.servers import Servers\n"
        "Servers(Path(sys.argv[1])).start()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_is_written_is_there_at_the_next_start(home: Path) -> None:
    with Servers(home) as servers:
        write(servers, "kept")
    with Servers(home) as servers:
        assert read(servers) == ("kept", ["kept"])


def test_the_socket_of_the_database_is_its_owner_s_alone(home: Path) -> None:
    with Servers(home, broker=False) as servers:
        with psycopg.connect(servers.database_url) as connection:
            folder = Path(connection.info.host)
        assert list(folder.glob(".s.PGSQL.*"))
        assert folder.stat().st_mode & 0o077 == 0


def test_vectors_can_be_stored(home: Path) -> None:
    with Servers(home) as servers, psycopg.connect(servers.database_url) as connection:
        connection.execute("CREATE EXTENSION vector")
        (distance,) = connection.execute("SELECT '[0, 3]'::vector <-> '[4, 0]'::vector").fetchone() or ()
    assert distance == pytest.approx(5)


def test_no_process_is_left_after_stop(home: Path) -> None:
    with Servers(home) as servers:
        running = servers.processes()
        assert len(running) == 2
        family = [*running, *(child for process in running for child in process.children(recursive=True))]
    _gone, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_servers_outlive_a_killed_parent_and_are_found_again(home: Path) -> None:
    start_in_a_killed_process(home)
    before = [process.pid for process in Servers(home).processes()]
    assert len(before) == 2
    with Servers(home) as servers:
        assert [process.pid for process in servers.processes()] == before
        write(servers, "found")
    assert Servers(home).processes() == []


def test_servers_of_a_killed_parent_can_be_stopped_by_another_process(home: Path) -> None:
    start_in_a_killed_process(home)
    Servers(home).stop()
    assert Servers(home).processes() == []


def test_committed_rows_survive_kill_9_of_both_servers(home: Path) -> None:
    with Servers(home) as servers:
        write(servers, "kept")
        redis.Redis.from_url(servers.broker_url).execute_command("WAITAOF", 1, 0, 5000)  # on the disk, too
        for process in servers.processes():
            process.kill()
            process.wait(10)
        servers.stop()
        servers.start()
        assert read(servers) == ("kept", ["kept"])


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_database(home: Path) -> None:
    with Servers(home) as servers:
        write(servers, "kept")
        pid_file = home / "postgres" / "postmaster.pid"
        text = pid_file.read_text()
        servers.stop(immediate=True)
        pid_file.write_text(text.replace(text.splitlines()[0], str(os.getppid()), 1))
        servers.start()
        assert read(servers)[1] == ["kept"]


def test_a_second_process_is_told_that_the_home_is_in_use(home: Path) -> None:
    with Servers(home), pytest.raises(EmbeddedError, match=rf"in use by process {os.getpid()}.*TWINVEC_HOME"):
        Servers(home).start()


def test_a_refused_second_start_leaves_the_first_alone(home: Path) -> None:
    with Servers(home) as servers:
        with pytest.raises(EmbeddedError):
            Servers(home).start()
        write(servers, "still here")
        assert read(servers) == ("still here", ["still here"])


def test_a_taken_port_is_named_and_nothing_is_left_running(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"port {port} .*TWINVEC_BROKER_PORT"):
            Servers(home, broker_port=port).start()
    assert Servers(home).processes() == []


def test_a_port_that_another_program_has_is_known_before_the_start(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert Servers(home, broker_port=other.getsockname()[1]).port_is_taken()
    with Servers(home, database=False) as servers:
        port = int(servers.broker_url.split(":")[-1].removesuffix("/0"))
        assert not Servers(home, broker_port=port).port_is_taken()
    assert not Servers(home, broker_port=port).port_is_taken()


def test_a_home_below_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot write to .*file/home: .*TWINVEC_HOME") as refusal:
        Servers(tmp_path / "file" / "home").start()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["long" * 40, "with a space, a comma and 100%"])
def test_any_folder_name_will_do(folder: Path, name: str) -> None:
    with Servers(folder / name) as servers:
        write(servers, "kept")
        assert read(servers) == ("kept", ["kept"])


def test_each_server_can_be_left_out(home: Path) -> None:
    with Servers(home, database=False) as servers:
        assert [process.name() for process in servers.processes()] == ["valkey-server"]
    with Servers(home, broker=False) as servers:
        assert [process.name() for process in servers.processes()] == ["postgres"]


def test_a_running_broker_moves_to_the_port_that_is_asked_for(home: Path) -> None:
    start_in_a_killed_process(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Servers(home, broker_port=port) as servers:
        assert servers.broker_url.endswith(f"@127.0.0.1:{port}/0")
        assert redis.Redis.from_url(servers.broker_url).ping()


def test_an_interrupt_of_the_terminal_does_not_reach_the_servers(home: Path) -> None:
    with Servers(home) as servers:
        assert all(os.getsid(process.pid) != os.getsid(0) for process in servers.processes())


def test_settings_that_an_operator_edits_are_kept(home: Path) -> None:
    with Servers(home) as servers:
        with (home / "postgres" / "postgresql.conf").open("a") as settings:
            settings.write("work_mem = '17MB'\n")
        servers.stop()
        servers.start()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("17MB",)


def test_a_server_that_died_is_revived_where_it_was(home: Path) -> None:
    with Servers(home) as servers:
        write(servers, "kept")
        redis.Redis.from_url(servers.broker_url).execute_command("WAITAOF", 1, 0, 5000)
        assert servers.revive() == []
        for process in servers.processes():
            process.kill()
            process.wait(10)
        assert servers.revive() == ["valkey", "postgres"]
        assert read(servers) == ("kept", ["kept"])
