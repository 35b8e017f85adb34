"""The text of systemd's units and of a Procfile for the processes of an installation. It must not write a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from local.child import SERVICES

TARGET = "twinvec.target"
MIGRATE = "twinvec-migrate.service"
ENVIRONMENT = "twinvec.env"  # beside the units: settings, and the passwords in URLs
OWNER = "twinvec-owner.env"  # the URL of the role that owns the tables
SAVE = "/var/lib/twinvec"
PORT = 9464  # of the first service's /metrics, /live and /ready, on 127.0.0.1; the others' come after it
STOP = 60  # seconds a worker has to finish or give back what it does; more than its grace time
MEMORY = {"beat": "512M", "control": "1G", "trainer": "4G"}  # of a service; what the image of a container gets as well
CPU_WEIGHT = {"embedder": 11, "intake": 7}  # as their niceness weighs among processes; of the others 100

_HARDENING = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
# What a user's own service manager cannot do.
_SYSTEM_HARDENING = """\
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices={devices}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
"""


@dataclass(frozen=True)
class Place:
    """Where the units will lie, and what they call."""

    folder: str  # absolute
    command: Sequence[str]  # the words that run `twinvec`, the first an absolute path
    user: bool  # for a user's own service manager, which sets no other user and does less of the hardening
    gpu: bool = False  # whether embedders see the machine's devices


def units(place: Place) -> Iterator[tuple[str, str]]:
    """(file name, text) of each unit: one a service, the target that starts them, and the migration before them."""
    yield TARGET, _target(place)
    yield MIGRATE, _migrate(place)
    for name, arguments in SERVICES.items():
        yield f"twinvec-{name}.service", _service(place, name, arguments)


def procfile(command: Sequence[str]) -> str:
    """A Procfile: the same services, a line each, and the release command that some platforms run before them."""
    lines = {"release": ("migrate",), **SERVICES}
    called = " ".join(map(_quoted, command))
    return "".join(f"{name}: {called} {' '.join(arguments)}\n" for name, arguments in lines.items())


def environment() -> str:
    """What stands in the file of settings at first: nothing but what has to be filled in."""
    return """\
# Settings of Twinvec's services; see the table in README.md. It holds passwords: its owner alone may read it.
#TWINVEC_BROKER_URL=redis://twinvec-worker:PASSWORD@127.0.0.1:6379/0
#TWINVEC_DATABASE_URL=postgresql://twinvec_worker:PASSWORD@127.0.0.1:5432/twinvec
"""


def owner() -> str:
    return """\
# For twinvec-migrate.service alone: the role that owns the tables. Its owner alone may read this file.
#TWINVEC_DATABASE_URL=postgresql://twinvec_owner:PASSWORD@127.0.0.1:5432/twinvec
"""


def _target(place: Place) -> str:
    wants = " ".join(f"twinvec-{name}.service" for name in SERVICES)
    return f"""\
[Unit]
Description=Twinvec: all of its processes
Wants={wants}

[Install]
WantedBy={"default.target" if place.user else "multi-user.target"}
"""


def _migrate(place: Place) -> str:
    return f"""\
[Unit]
Description=Twinvec: the tables of this version
{_after(place)}\
PartOf={TARGET}

[Service]
Type=oneshot
RemainAfterExit=yes
Restart=on-failure
RestartSec=5
{_environment(place, OWNER)}\
ExecStart={_exec(place, "migrate", "--worker=twinvec_worker")}
{_confined(place)}"""


def _service(place: Place, name: str, arguments: Sequence[str]) -> str:
    return f"""\
[Unit]
Description=Twinvec: {name}
{_after(place, MIGRATE)}\
Wants={MIGRATE}
PartOf={TARGET}
StartLimitIntervalSec=0

[Service]
Type=exec
Environment=REMAP_SIGTERM=SIGQUIT TWINVEC_HTTP_PORT={PORT + list(SERVICES).index(name)}
{_environment(place, ENVIRONMENT)}\
ExecStart={_exec(place, *arguments)}
Restart=always
RestartSec=2
KillMode=mixed
TimeoutStopSec={STOP}
MemoryMax={MEMORY.get(name, "2G")}
CPUWeight={CPU_WEIGHT.get(name, 100)}
TasksMax=512
{_confined(place, devices=place.gpu and name == "embedder")}
[Install]
WantedBy={TARGET}
"""


def _after(place: Place, *units: str) -> str:
    """What comes before; a worker that starts without tables ends, and is started again until they are there."""
    others = [] if place.user else ["network-online.target", "postgresql.service", "valkey-server.service"]
    wants = "" if place.user else "Wants=network-online.target\n"
    after = " ".join([*others, *units])
    return wants + (f"After={after}\n" if after else "")


def _environment(place: Place, file: str) -> str:
    return f"EnvironmentFile={_escaped(place.folder)}/{file}\n"


def _confined(place: Place, *, devices: bool = False) -> str:
    if place.user:
        return f"UMask=0077\n{_HARDENING}"
    account = f"User=twinvec\nGroup=twinvec\nStateDirectory=twinvec\nWorkingDirectory={SAVE}\n"
    settings = f"Environment=TWINVEC_HOME={SAVE} HOME={SAVE}\n"
    private = "no" if devices else "yes"
    return f"{account}{settings}UMask=0077\n{_HARDENING}{_SYSTEM_HARDENING.format(devices=private)}"


def _exec(place: Place, *arguments: str) -> str:
    return " ".join(_quoted(_escaped(word)) for word in (*place.command, *arguments))


def _escaped(text: str) -> str:
    """% begins a specifier in a unit, and $ a variable."""
    return text.replace("%", "%%").replace("$", "$$")


def _quoted(text: str) -> str:
    return f'"{text}"' if set(text) & set(" '\"\\") else text
