"""The lanes of a fleet, looked into at the broker."""

from collections.abc import Mapping

import redis

from local.servers.valkey import Valkey
from tests.chaos.member import Member
from twinvec_client.contract.broker import KEY_PREFIX


class Lanes:
    """What the broker holds, and which members wait there."""

    def __init__(self, broker: Valkey, members: Mapping[str, Member]) -> None:
        self._broker, self._members = broker, members

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self._broker.url)

    def key(self, name: str) -> str:
        """The key in Redis of a lane's messages."""
        return KEY_PREFIX + name

    def idle(self, name: str) -> bool:
        """Whether a member waits at the broker for its next message."""
        with self.redis() as broker:
            ports = {
                str(each.laddr.port) for process in self._members[name].family() for each in process.net_connections()
            }
            return any(
                client["cmd"] == "brpop" and client["flags"] == "b" and client["addr"].rpartition(":")[2] in ports
                for client in broker.client_list()
            )
