"""Hosts with addresses and names of their own on one machine, and the network between them, which can be hurt.

Each host is a network namespace with a TUN device, and a thread of this process carries every packet from one device to
another: of a connection that sends much, many segments at once, as network cards do. So it can drop, delay and lose
packets without a word, as networks do, whatever filters the kernel has. It must not know what the hosts say to each
other.
"""

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

NAMESPACES = Path("/run/netns")
CONFIGURED = Path("/etc/netns")  # `ip netns exec` puts what is in NAME/ over /etc
PREFIX = "twinvec-"  # of every namespace, then the id of the process that made it
SUBNET = "10.77.0."
SILENT_RESOLVER = f"nameserver {SUBNET}254\n"  # an address that no host has

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x400454CA, 0x0001, 0x1000, 0x4000
_TUNSETOFFLOAD, _TUN_F_CSUM, _TUN_F_TSO4 = 0x400454D0, 0x01, 0x02
_HEADER = 10  # bytes before each packet that say how it is cut into segments: the kernel's `virtio_net_hdr`
_TCP, _SYN, _ACK = 6, 0x02, 0x10
_MTU = 9000
_numbers = itertools.count()

Line = tuple[bytes, bytes]  # source's address and port, destination's address and port


class NoNetwork(Exception):
    """Hosts cannot be made on this machine. The message says what is missing."""


def require() -> None:
    """Raises NoNetwork, saying what to do, where namespaces or TUN devices cannot be made."""
    if shutil.which("ip") is None:
        raise NoNetwork("`ip` is missing: install iproute2 (Debian: apt-get install iproute2)")
    if os.geteuid() != 0:
        raise NoNetwork("network namespaces are made by root only: run this as root")
    if not Path("/dev/net/tun").exists():
        raise NoNetwork(
            "/dev/net/tun is missing: load the module `tun`, or give the container --device /dev/net/tun "
            "with --cap-add NET_ADMIN --cap-add SYS_ADMIN"
        )


class Host:
    """One machine of a network."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.namespace = f"{PREFIX}{os.getpid()}-{next(_numbers)}-{name}"
        self.before = ("ip", "netns", "exec", self.namespace)  # the words that start a command here

    def make(self) -> int:
        """Make its namespace; the file descriptor of its TUN device."""
        _ip("netns", "add", self.namespace)
        with self.inside():
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"eth0", flags))
            # As network cards do: the kernel hands over up to 64 kB of a connection at once, and takes as much.
            fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
        _ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "dev", "eth0", "mtu", str(_MTU), "up")
        _ip("-n", self.namespace, "link", "set", "dev", "lo", "up")
        return device

    def remove(self) -> None:
        with suppress(NoNetwork):
            _ip("netns", "delete", self.namespace)
        shutil.rmtree(CONFIGURED / self.namespace, ignore_errors=True)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and the processes that it starts, be on this host. Names are resolved as before."""
        with Path("/proc/thread-self/ns/net").open() as here, (NAMESPACES / self.namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def resolve(self, addresses: Mapping[str, str]) -> None:
        """What names mean on this host from now on, for running processes too; any other is asked of a server that
        never answers.
        """
        folder = CONFIGURED / self.namespace
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        # Written over, not replaced: what is mounted over /etc/hosts is the file, not its name.
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        (folder / "resolv.conf").write_text(f"{SILENT_RESOLVER}options timeout:1 attempts:1\n")


class Network:
    """Named hosts, each reaching all others; a context manager.

    latency: seconds that every packet takes. loss: share of the packets that is lost.
    """

    def __init__(self, *names: str) -> None:
        self.hosts = {name: Host(name, f"{SUBNET}{at}") for at, name in enumerate(names, 1)}
        self.latency, self.loss = 0.0, 0.0
        self.lost = 0  # packets, of `loss`
        self._cut: set[tuple[bytes, bytes]] = set()
        self._known: set[Line] = set()  # TCP connections that packets were seen of, both ways
        self._forgotten: set[Line] = set()
        self._lines = threading.Lock()  # over both
        self._devices: dict[bytes, int] = {}  # address -> file descriptor
        self._late: list[tuple[float, int, int, bytes]] = []  # due, order, file descriptor, packet
        self._order = itertools.count()
        self._random = random.Random(0)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="network", daemon=True)

    def __enter__(self) -> Self:
        require()
        _sweep()
        try:
            for host in self.hosts.values():
                self._devices[socket.inet_aton(host.address)] = host.make()
            for name in self.hosts:
                self.resolve(name)
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._remove()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def resolve(self, name: str, *, without: Sequence[str] = ()) -> None:
        """Have a host know all hosts by name, but some."""
        self[name].resolve({host.name: host.address for host in self.hosts.values() if host.name not in without})

    def move(self, name: str) -> None:
        """Give a host another address; who asks for it by name gets that, and the former one is nobody's."""
        host, former = self[name], self._address(name)
        address = f"{SUBNET}{100 + int(host.address.rpartition('.')[2])}"
        _ip("-n", host.namespace, "address", "delete", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.namespace, "address", "add", f"{address}/24", "dev", "eth0")
        self._devices[socket.inet_aton(address)] = self._devices.pop(former)
        host.address = address
        for each in self.hosts:
            self.resolve(each)

    def part(self, one: str, *others: str) -> None:
        """Drop all packets between a host and others, both ways; all others if none is named."""
        for other in others or self.hosts:
            ends = self._address(one), self._address(other)
            self._cut |= {ends, ends[::-1]}

    def heal(self) -> None:
        """Carry all packets again, but those of connections that are forgotten."""
        self._cut = set()

    def forget(self, *names: str) -> int:
        """Drop the packets of all TCP connections of these hosts that are open now, for ever; how many they are.

        As a NAT or a firewall does that has lost its table: new connections are carried.
        """
        addresses = {self._address(name) for name in names}
        with self._lines:
            lines = {line for line in self._known if any(end[:4] in addresses for end in line)}
            self._known -= lines
            self._forgotten |= lines
        return len(lines) // 2

    def _address(self, name: str) -> bytes:
        return socket.inet_aton(self[name].address)

    def _carry(self) -> None:
        with selectors.DefaultSelector() as selector:
            for device in self._devices.values():
                selector.register(device, selectors.EVENT_READ)
            while not self._ending.is_set():
                now = time.monotonic()
                for key, _ in selector.select(min(0.1, max(0.0, self._late[0][0] - now) if self._late else 0.1)):
                    for packet in _packets(key.fd):
                        self._take(packet)
                now = time.monotonic()
                while self._late and self._late[0][0] <= now:
                    _, _, device, packet = heapq.heappop(self._late)
                    _deliver(device, packet)

    def _take(self, read: bytes) -> None:
        packet = read[_HEADER:]
        source, destination = packet[12:16], packet[16:20]
        device = self._devices.get(destination)
        if device is None or (source, destination) in self._cut or not self._is_known(packet):
            return
        if self.loss and self._random.random() < self.loss:
            self.lost += 1
        elif self.latency:
            heapq.heappush(self._late, (time.monotonic() + self.latency, next(self._order), device, read))
        else:
            _deliver(device, read)

    def _is_known(self, packet: bytes) -> bool:
        """Whether its connection is not forgotten; one that begins is known from then on."""
        if packet[9] != _TCP:
            return True
        start = 4 * (packet[0] & 0xF)
        line = packet[12:16] + packet[start : start + 2], packet[16:20] + packet[start + 2 : start + 4]
        with self._lines:
            if packet[start + 13] & (_SYN | _ACK) == _SYN:
                self._forgotten -= {line, line[::-1]}
            elif line in self._forgotten:
                return False
            self._known |= {line, line[::-1]}
        return True

    def _remove(self) -> None:
        for device in self._devices.values():
            os.close(device)
        for host in self.hosts.values():
            host.remove()


def _packets(device: int) -> Iterator[bytes]:
    """The IPv4 packets that a host has sent, each behind its header."""
    with suppress(BlockingIOError):
        for _ in range(64):
            read = os.read(device, _HEADER + 65536)
            if read[_HEADER] >> 4 == 4:
                yield read


def _deliver(device: int, read: bytes) -> None:
    with suppress(OSError):  # its queue is full: lost
        os.write(device, read)


def _sweep() -> None:
    """Remove the namespaces of processes that were killed."""
    for path in (*NAMESPACES.glob(f"{PREFIX}*"), *CONFIGURED.glob(f"{PREFIX}*")):
        if not psutil.pid_exists(int(path.name.split("-")[1])):
            with suppress(NoNetwork):
                _ip("netns", "delete", path.name)
            shutil.rmtree(CONFIGURED / path.name, ignore_errors=True)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:  # os.setns is Python 3.12's
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NoNetwork(f"`ip {' '.join(words)}` failed: {error.stderr.strip()}") from None
