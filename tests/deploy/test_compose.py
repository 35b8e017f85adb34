"""docker-compose.yml, and the files it mounts, agree with the code and with docs/security.md."""

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.servers import postgres
from tests.security.documented import acl_commands, statements
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OWN = {name: service for name, service in SERVICES.items() if service["image"].startswith("twinvec:")}
SECRET = re.compile(r"\$\{(TWINVEC_\w+):-for-local-use-only\}")


def default_environment() -> dict[str, str]:
    """Every password and token, by the name under which compose takes it."""
    names = set(SECRET.findall((ROOT / "docker-compose.yml").read_text()))
    return {name: f"{name.lower()}'s" for name in names}


def test_no_password_stands_on_a_command_line() -> None:
    """A container's processes are seen by every user of its host."""
    for name, service in SERVICES.items():
        for words in (service.get("command", []), service.get("entrypoint", []), service.get("healthcheck", {})):
            assert not SECRET.search(str(words)), name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert {"mem_limit", "pids_limit"} <= service.keys()
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}
    published = [str(port) for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published), "on this machine alone"


@pytest.mark.parametrize("name", OWN)
def test_our_own_processes_have_no_more_than_they_need(name: str) -> None:
    service = OWN[name]
    assert service["user"] == "10001:10001"
    assert "cap_add" not in service
    assert "volumes" not in service
    as_owner = "twinvec_owner" in str(service["environment"])
    assert as_owner == (name == "migrate")


@pytest.mark.parametrize("name", OWN)
def test_every_setting_in_compose_is_one_of_ours(name: str) -> None:
    known = {f"TWINVEC_{field.upper()}" for field in Settings.model_fields}
    assert {each for each in OWN[name]["environment"] if each.startswith("TWINVEC_")} <= known


@pytest.mark.parametrize("name", sorted(OWN.keys() - {"migrate", "web"}))
def test_a_worker_is_healthy_by_its_own_word(name: str) -> None:
    """A lane answers while one worker of it does, and another may be stuck."""
    service = OWN[name]
    assert service["healthcheck"]["test"] == ["CMD", "twinvec", "health", "--ready"]
    assert (service["environment"]["TWINVEC_HTTP_PORT"], service["environment"]["TWINVEC_HTTP_HOST"]) == (
        "9464",
        "0.0.0.0",
    )
    assert "9464" not in str(service.get("ports", []))


def test_prometheus_looks_for_every_process_that_compose_runs() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) == OWN.keys() - {"migrate", "web"}
    assert found["port"] == 9464


def test_grafana_finds_its_source_and_the_dashboards() -> None:
    mounted = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"] if volume.startswith("./"))
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((FOLDER / "grafana" / "dashboards" / "twinvec.yaml").read_text())["providers"]
    folders = {there: here for here, there in mounted.items()}
    assert list((ROOT / folders[provider["options"]["path"]]).glob("*.json"))


def test_the_database_has_the_settings_of_the_embedded_one() -> None:
    command, *settings = SERVICES["database"]["command"]
    assert command == "postgres"
    embedded = {name: value for name, value in postgres._SETTINGS.items() if name != "listen_addresses"}
    assert dict(setting.removeprefix("--").split("=") for setting in settings) == embedded


def test_the_broker_has_the_users_that_the_page_on_security_lists(tmp_path: Path) -> None:
    """What its script writes, with the passwords hashed."""
    environment = default_environment()
    script = (FOLDER / "broker.sh").read_text()
    script = script.replace("/run/twinvec", str(tmp_path)).replace("exec valkey-server", "exec true valkey-server")
    subprocess.run(["sh", "-c", script], env=os.environ | environment, check=True)
    users = (tmp_path / "users.acl").read_text()
    assert (tmp_path / "users.acl").stat().st_mode & 0o077 == 0
    written = {line.split()[1]: line.split()[2:] for line in users.splitlines()}
    assert written.pop("default") == ["off"]
    assert written.keys() == {"twinvec-worker", "twinvec-producer"}
    documented: dict[str, list[str]] = {}
    for _, _, user, *words in acl_commands():
        if user in written:
            documented.setdefault(user, words)  # the first of a user's commands is all it has by default
    hashed = {
        f"twinvec-{role}": hashlib.sha256(environment[f"TWINVEC_{name}_PASSWORD"].encode()).hexdigest()
        for role, name in (("worker", "BROKER"), ("producer", "PRODUCER"))
    }
    assert {user: " ".join(words) for user, words in written.items()} == {
        user: re.sub(r">\S+", f"#{hashed[user]}", " ".join(words)) for user, words in documented.items()
    }


def test_the_database_has_the_roles_that_the_page_on_security_lists() -> None:
    plain = re.sub(r"^(--|\\).*\n", "", (FOLDER / "roles.sql").read_text(), flags=re.MULTILINE)
    made = [statement.strip() for statement in plain.split(";") if statement.strip()]
    documented = [*statements("server"), *statements("database")]
    documented = [re.sub(r"'([A-Z]+)-PASSWORD'", lambda role: f":'{role[1].lower()}'", each) for each in documented]
    for each in ("CREATE DATABASE twinvec OWNER twinvec_owner",):
        documented[documented.index(each)] += " ENCODING 'UTF8' TEMPLATE template0"
    assert made == documented


def test_random_passwords_are_written_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    script = ["sh", str(FOLDER / "passwords.sh")]
    subprocess.run(script, cwd=tmp_path, check=True)
    file = tmp_path / ".env"
    passwords = dict(line.split("=") for line in file.read_text().splitlines())
    assert passwords.keys() == default_environment().keys()
    assert len({*passwords.values()}) == len(passwords)
    assert all(re.fullmatch("[0-9a-f]{48}", password) for password in passwords.values()), "as a URL may have it"
    assert file.stat().st_mode & 0o077 == 0
    assert subprocess.run(script, cwd=tmp_path, capture_output=True, check=False).returncode != 0
    assert dict(line.split("=") for line in file.read_text().splitlines()) == passwords
