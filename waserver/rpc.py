"""supervisord's XML-RPC over its unix socket. Without Django: the guard uses it."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: The one group all programs are in, so that they are stopped at the same time and not one after the other.
GROUP = "waserver"
GUARD = "guard"


@dataclass(frozen=True)
class Info:
    """One program as supervisord sees it. `state` in small letters: running, starting, backoff, fatal, stopped, ..."""

    name: str
    state: str
    pid: int
    started_at: datetime | None
    exit_status: int
    description: str

    @property
    def is_up(self) -> bool:
        """Return whether it runs, or is on its way."""
        return self.state in ("running", "starting")


class SupervisorError(Exception):
    """supervisord does not answer, or refused; the text is one sentence."""


class Supervisor:
    """The supervisord that listens at a unix socket. Every method raises SupervisorError."""

    def __init__(self, socket_path: str, timeout: float = 40) -> None:
        self._proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=_Transport(socket_path, timeout))

    def programs(self) -> list[Info]:
        """Return all programs but the guard, in the order of their names."""
        found = [_info(row) for row in self._call("getAllProcessInfo")]
        return sorted((info for info in found if info.name != GUARD), key=lambda info: info.name)

    def start(self, name: str, wait: bool = False) -> None:
        """Start a program; with `wait` return once it has stayed up for its `startsecs`."""
        self._call("startProcess", f"{GROUP}:{name}", wait)

    def stop(self, name: str, wait: bool = True) -> None:
        """Stop a program: it is not started again by itself."""
        self._call("stopProcess", f"{GROUP}:{name}", wait)

    def stop_all(self) -> None:
        """Stop all programs at the same time; returns once they have ended. supervisord and the guard go on."""
        self._call("stopProcessGroup", GROUP, True)

    def start_all(self) -> None:
        """Start all programs. Returns at once."""
        self._call("startProcessGroup", GROUP, False)

    def shutdown(self) -> None:
        """End all programs, then supervisord itself. Returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(f"supervisord refused {method}{arguments}: {fault.faultString}.") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"supervisord does not answer ({type(error).__name__}: {error}).") from None


def _info(row: dict[str, Any]) -> Info:
    running = row["statename"] in ("RUNNING", "STARTING", "STOPPING")
    return Info(
        row["name"], row["statename"].lower(), row["pid"],
        datetime.fromtimestamp(row["start"], UTC) if running and row["start"] else None,
        row["exitstatus"], row["spawnerr"] or "",
    )  # fmt: skip


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path, self._timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self._path, self._timeout)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("supervisor", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
