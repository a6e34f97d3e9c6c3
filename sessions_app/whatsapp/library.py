"""The Go library inside neonize: found, checked, loaded once per process, and bound directly.

Bound directly because neonize's own `client` module would double the memory (66 MB instead of 33) with image and HTTP
packages, set up the root logger, start a log thread, and download an unsigned binary when the file is missing. The
signatures below are those of neonize 0.5.2 (`_binder.py`), and no other version is accepted.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import resource
import sys
import threading
from pathlib import Path
from typing import Any

from sessions_app.whatsapp.client import WhatsAppError
from sessions_app.whatsapp.gate import Gate

#: The one version these signatures were written for.
VERSION = "0.5.2"
#: From Linux' prctl.h, and nanoseconds by which the library's threads may wake up late instead of 50,000.
_PR_SET_TIMERSLACK, _SLACK = 29, 200_000

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

QrCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
EventCallback = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)


class ProxySettings(ctypes.Structure):
    """The C struct of the same name: traffic of a client goes through `address`."""

    _fields_ = (
        ("address", ctypes.c_char_p),
        ("no_websocket", ctypes.c_bool),
        ("only_login", ctypes.c_bool),
        ("no_media", ctypes.c_bool),
    )


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


_START = (
    ctypes.c_char_p,  # store
    ctypes.c_char_p,  # uuid
    ctypes.c_char_p, ctypes.c_int,  # jid: never given, one the store does not hold ends the process
    ctypes.c_int,  # new device
    ctypes.c_char_p,  # log level
    QrCallback, QrCallback,  # QR text, log-in status
    EventCallback,
    LogCallback,
    ctypes.c_char_p, ctypes.c_int,  # numbers of the events wanted
    ctypes.c_char_p, ctypes.c_int,  # DeviceProps
    ctypes.c_char_p, ctypes.c_int,  # phone pairing: unused, it is a call of its own
    ctypes.POINTER(ProxySettings),
)  # fmt: skip


_DATA = (ctypes.c_char_p, ctypes.c_int)
#: Calls that answer with a protobuf message -> their arguments after the uuid. None of them ends the process when the
#: client is gone.
_QUERIES = {
    "SendMessage": (*_DATA, *_DATA),  # to whom, Message
    "Upload": (*_DATA, ctypes.c_int),  # bytes, kind of file
    "DownloadAny": _DATA,  # Message
    "IsOnWhatsApp": _DATA,  # numbers, separated by blanks
    "GetProfilePicture": (*_DATA, *_DATA),  # of whom, GetProfilePictureParams
    "GetJoinedGroups": (),
    "GetGroupInfo": _DATA,
}  # fmt: skip
#: Calls that answer with an error text ("" is success).
_COMMANDS = {
    "SendChatPresence": (*_DATA, ctypes.c_int, ctypes.c_int),  # where, state, medium
    "SendPresence": (ctypes.c_char_p,),
    "MarkRead": (ctypes.c_char_p, ctypes.c_int, *_DATA, *_DATA, ctypes.c_char_p),  # ids, when, chat, sender, receipt
}  # fmt: skip


class Library:
    """The loaded library. Only the calls below are ever made; `gate` orders them."""

    def __init__(self, path: Path) -> None:
        try:
            self._go = ctypes.CDLL(str(path))
            self._go.GetVersion.restype = ctypes.c_char_p
            version = bytes(self._go.GetVersion() or b"").decode()
        except (OSError, AttributeError) as error:
            raise WhatsAppError(f"The WhatsApp library {path} cannot be loaded: {error}.") from None
        if version != VERSION:
            raise WhatsAppError(f"The WhatsApp library {path} is version {version}, but {VERSION} is needed: "
                                "run `make setup`.")  # fmt: skip
        self.path = path
        self.gate = Gate()
        self._go.Neonize.argtypes, self._go.Neonize.restype = _START, ctypes.c_void_p
        self._go.Stop.argtypes, self._go.Stop.restype = (ctypes.c_char_p,), None
        self._go.SetPassive.argtypes = (ctypes.c_char_p, ctypes.c_bool)
        self._go.SetPassive.restype = ctypes.c_void_p
        self._go.Logout.argtypes, self._go.Logout.restype = (ctypes.c_char_p,), ctypes.c_void_p
        self._go.PairPhone.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
        self._go.PairPhone.restype = ctypes.POINTER(_Bytes)
        for name, kinds in _QUERIES.items():
            call = getattr(self._go, name)
            call.argtypes, call.restype = (ctypes.c_char_p, *kinds), ctypes.POINTER(_Bytes)
        for name, kinds in _COMMANDS.items():
            call = getattr(self._go, name)
            call.argtypes, call.restype = (ctypes.c_char_p, *kinds), ctypes.c_void_p
        self._go.FreeString.argtypes, self._go.FreeString.restype = (ctypes.c_void_p,), None
        self._go.FreeBytesStruct.argtypes = (ctypes.POINTER(_Bytes),)
        self._go.FreeBytesStruct.restype = None

    def start(self, *arguments: Any) -> str:
        """Run a client until it is stopped; return the error it ended with, or "". Inside a turn of the gate."""
        return self._text(self._go.Neonize(*arguments))

    def stop(self, uuid: bytes) -> None:
        """Disconnect a client and forget it; harmless for an unknown one. Inside a turn of the gate."""
        self._go.Stop(uuid)

    def set_passive(self, uuid: bytes, passive: bool) -> str:
        """Tell WhatsApp whether this device is passive; return the error or "". Answered by the server; up to 75 s."""
        self.gate.call_begins()
        return self._text(self._go.SetPassive(uuid, passive))

    def logout(self, uuid: bytes) -> str:
        """Unlink the device at WhatsApp and delete its keys; return the error or ""."""
        self.gate.call_begins()
        return self._text(self._go.Logout(uuid))

    def pair_phone(self, uuid: bytes, parameters: bytes) -> bytes:
        """Ask for an 8-character code; PairPhoneParams in, PairPhoneReturnFunction out."""
        self.gate.call_begins()
        return self._bytes(self._go.PairPhone(uuid, parameters, len(parameters)))

    def query(self, name: str, uuid: bytes, *arguments: bytes | int | str) -> bytes:
        """Make one of _QUERIES and return its protobuf answer; bytes go with their length. After `gate.call_begins`."""
        return self._bytes(getattr(self._go, name)(uuid, *_flat(arguments)))

    def command(self, name: str, uuid: bytes, *arguments: bytes | int | str) -> str:
        """Make one of _COMMANDS and return its error or "". After `gate.call_begins`."""
        return self._text(getattr(self._go, name)(uuid, *_flat(arguments)))

    def _bytes(self, answer: Any) -> bytes:
        if not answer:
            return b""
        try:
            found = answer.contents
            return ctypes.string_at(found.data, found.size) if found.data else b""
        finally:
            self._go.FreeBytesStruct(answer)

    def _text(self, address: int | None) -> str:
        if not address:
            return ""
        try:
            return ctypes.string_at(address).decode(errors="replace")
        finally:
            self._go.FreeString(address)


def _flat(arguments: tuple[bytes | int | str, ...]) -> list[bytes | int]:
    """Return the arguments as the library takes them: bytes with their length, text as a C string."""
    flat: list[bytes | int] = []
    for each in arguments:
        if isinstance(each, bytes):
            flat += [each, len(each)]
        else:
            flat.append(each.encode() if isinstance(each, str) else each)
    return flat


_loaded: Library | None = None
_loading = threading.Lock()


def find(path: str = "") -> Path:
    """Return the file of the Go library: `path`, or the one bundled with neonize. Raises WhatsAppError."""
    if path:
        file = Path(path)
    else:
        spec = importlib.util.find_spec("neonize")  # does not import it
        if spec is None or not spec.submodule_search_locations:
            raise WhatsAppError("The package neonize is not installed: run `make setup`.")
        machine = platform.machine().lower()
        suffix = {"linux": "so", "darwin": "dylib"}.get(sys.platform, "dll")
        name = f"neonize-{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}.{suffix}"
        file = Path(spec.submodule_search_locations[0]) / name
    if not file.is_file():
        raise WhatsAppError(f"The WhatsApp library {file} is missing: run `make setup`, or set WHATSAPP_LIBRARY.")
    return file


def load(path: str = "") -> Library:
    """Return the library, loading it at the first call. Raises WhatsAppError when it is missing or of another version.

    A process has one: a second path is refused, two Go runtimes in one process are not supported.
    """
    global _loaded
    with _loading:
        file = find(path)
        if _loaded is None:
            _raise_file_limit()
            os.environ.setdefault("GOTRACEBACK", "single")
            _take_naps()
            _loaded = Library(file)
        if _loaded.path != file:
            raise WhatsAppError(f"This process already uses the WhatsApp library {_loaded.path}.")
        return _loaded


def _take_naps() -> None:
    """Let this thread, and those it starts, sleep a little longer than they ask for.

    Go's monitor thread (runtime.sysmon) looks every 20 microseconds for as long as anything runs. Once in 200 it takes
    half the processor time, at rest as well as with messages, of which a sixth more are sent (bench/messages.py).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_SLACK), 0, 0, 0)


def _raise_file_limit() -> None:
    """Every start of a client leaks a file descriptor, and every client needs several."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a hard limit of "unlimited" may not be accepted as soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
