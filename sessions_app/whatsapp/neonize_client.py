"""The client protocol on the real library. The only file that imports neonize, and only when first used.

A client is dead after its first terminal observation: its route is aborted at once, so the library's own reconnect
(which cannot be switched off) reaches nothing more, and `stop` removes it from the library.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import threading
import time
import types
import weakref
from datetime import timedelta
from typing import Any

from sessions_app.whatsapp import device_store, incoming, symptoms
from sessions_app.whatsapp.client import Kind, Observation, Observe, Receive, WhatsAppError
from sessions_app.whatsapp.gate import CALL_HEAD
from sessions_app.whatsapp.gocall import GoCall
from sessions_app.whatsapp.inbound import Inbound
from sessions_app.whatsapp.library import Library, find, load
from sessions_app.whatsapp.pairing import ChildPairing
from sessions_app.whatsapp.relay import Relay, Route
from sessions_app.whatsapp.talk import Talk
from sessions_app.whatsapp.tunnel import Outbound
from sessions_app.whatsapp.upstream import DialError

_log = logging.getLogger(__name__)

#: Seconds from the start of a client to its first sign of life. The gate is held no longer.
SIGN_OF_LIFE = 20.0
#: Seconds `stop` waits for its turn, and then for the library's call to end, before it leaves the rest to a thread.
STOP_PATIENCE = 2.0
#: Seconds the library waits for the encrypted handshake. It notices no cut meanwhile, and a stop would wait for it.
HANDSHAKE = 21.0
#: Stores that were prepared.
_held: set[str] = set()


def messages() -> Any:
    """Return neonize's module of protobuf messages, without running neonize's own `__init__` (see library.py)."""
    if "neonize" not in sys.modules:
        spec = importlib.util.find_spec("neonize")
        if spec is None or spec.submodule_search_locations is None:
            raise WhatsAppError("The package neonize is not installed: run `make setup`.")
        package = types.ModuleType("neonize")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["neonize"] = package
    module = importlib.import_module("neonize.proto.Neonize_pb2")
    folder = os.path.dirname(str(module.__file__))
    if sys.path[:1] == [folder]:  # it puts its own folder first, before ours
        sys.path.append(sys.path.pop(0))
    return module


def device_props() -> bytes:
    """Return how this device names itself in the phone's list of linked devices: Google Chrome (Linux)."""
    messages()
    module = importlib.import_module("neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2")
    props = module.DeviceProps(os="Linux", platformType=module.DeviceProps.CHROME)
    return bytes(props.SerializeToString())


class EventTypes:
    """The protobuf types of the library's events, by number."""

    def __init__(self) -> None:
        pb = self.pb = messages()
        self.device, self.log_entry = pb.Device, pb.LogEntry
        self._types = {
            symptoms.KEEPALIVE_TIMEOUT: pb.KeepAliveTimeout, symptoms.KEEPALIVE_RESTORED: pb.KeepAliveRestored,
            symptoms.LOGGED_OUT: pb.LoggedOut, symptoms.REPLACED: pb.StreamReplaced, symptoms.BANNED: pb.TemporaryBan,
            symptoms.CONNECT_FAILED: pb.ConnectFailure, symptoms.OUTDATED: pb.ClientOutdated,
            symptoms.STREAM_ERROR: pb.StreamError, symptoms.DISCONNECTED: pb.Disconnected,
        }  # fmt: skip

    def observation(self, number: int, data: bytes) -> Observation | None:
        """Return what an event means, or None for one that means nothing to us."""
        message = self._types.get(number)
        return symptoms.EVENTS[number](message.FromString(data)) if message is not None else None

    def inbound(self, number: int, data: bytes) -> Inbound | None:
        """Return what an event brought, or None for one that brings nothing."""
        if number == incoming.MESSAGE:
            return incoming.message(self.pb.Message.FromString(data))
        return incoming.receipt(self.pb.Receipt.FromString(data)) if number == incoming.RECEIPT else None


class NeonizeClient(Talk):
    """One running client. Implements client.Client, the talking in talk.py; hears its run as a gocall.Handler."""

    def __init__(self, library: Library, types: EventTypes, route: Route, observe: Observe, receive: Receive | None,
                 store: str, props: bytes) -> None:  # fmt: skip
        super().__init__(library, types.pb)
        self._types, self._route, self._observe = types, route, observe
        self._store, self._receive = store, receive
        self._lock = threading.RLock()
        self._stopped = self._ended = self._connected = self._probing = self._cleaned = False
        self._device: Any = None
        self._connected_by: Outbound | None = None  # the connection on which it last logged in
        self._erred = False  # a stream error came since: it may log in again without a word of a lost connection
        self._overtaken = False  # it logged in again, and the loss before that was not told of yet
        self._heard_at = 0.0  # when the library last told what it cannot know before a handshake
        self._written = threading.Event()  # the library has changed its maps and dials now
        self._alive = threading.Event()  # first sign of life
        self._returned = threading.Event()
        route.on_connect = self._written.set
        events = symptoms.SUBSCRIBED + (bytes([incoming.MESSAGE, incoming.RECEIPT]) if receive else b"")
        self._call = GoCall(library, store, route.url, events, props, self)
        route.telling = lambda: self._call.telling

    def start(self) -> None:
        """Reach WhatsApp, then start the client and wait for its first sign of life. Failures are observed."""
        if not device_store.exists(self._store):
            self._emit(Observation(Kind.CLIENT_DIED, None, {"error": "The device store is missing."}))
            return
        try:
            _safeguard(self._store)
        except WhatsAppError as error:
            self._emit(Observation(Kind.CLIENT_DIED, None, {"error": str(error)}))
            return
        try:
            self._route.dial()
        except DialError as error:
            self._emit(symptoms.connect_failed(408, error.reason, str(error)))
            return
        with self._library.gate.turn() as turn:
            assert turn is not None
            with self._lock:
                if self._stopped or self._ended:
                    return
                self._call.start()
            deadline = time.monotonic() + SIGN_OF_LIFE
            self._written.wait(SIGN_OF_LIFE)
            turn.written()
            if not self._alive.wait(max(0.0, deadline - time.monotonic())):
                self._emit(symptoms.connect_failed(408, "no_answer", "WhatsApp did not answer the log-in in time."))
            if self._device is None and not self._returned.is_set():
                time.sleep(CALL_HEAD)  # it may be about to read the maps

    def stop(self) -> None:
        """Stop for good: from here on nothing is observed and no byte goes out. Idempotent."""
        with self._lock:
            first, self._stopped = not self._stopped, True
        self._route.abort()
        if first and not self._clean(STOP_PATIENCE):
            threading.Thread(target=self._clean_later, name="whatsapp-clean", daemon=True).start()

    def probe(self, timeout: timedelta) -> bool:
        """Return whether WhatsApp answered within `timeout`: what the client says after each log-in, said again."""
        with self._lock:
            if not self._running() or self._probing:
                return False
            self._probing = True
        self._rouse()
        answered: list[bool] = []
        done = threading.Event()

        def ask() -> None:
            try:
                answered.append(self._running() and not self._library.set_passive(self._call.uuid, False))
            finally:
                self._probing = False
                done.set()

        threading.Thread(target=ask, name="whatsapp-probe", daemon=True).start()
        return done.wait(timeout.total_seconds()) and answered == [True]

    def silent_for(self) -> timedelta:
        """Return how long no byte has arrived from WhatsApp."""
        return timedelta(seconds=self._route.silent_for())

    def logout(self) -> None:
        """Unlink this device at WhatsApp and delete its keys. Raises WhatsAppError when not confirmed; up to 75 s."""
        if not self._running():
            raise WhatsAppError("The session is not connected; connect it first, then log out.")
        self._rouse()
        error = self._library.logout(self._call.uuid)
        if error:
            _log.warning("logout refused: %s", error)
            raise WhatsAppError("WhatsApp did not confirm the log-out; try again, or unlink the device on the phone.")
        with self._lock:
            self._ended = True
        self._route.abort()

    # -- heard from the library, on its threads

    def on_qr(self, text: str) -> None:
        """A paired store shows no QR: this one holds no device any more."""
        self._emit(Observation(Kind.LOGGED_OUT, 401, {"on_connect": True, "reason": 401, "error": "no device"}))

    def on_status(self, status: str) -> None:
        """The QR code nobody wanted was taken down."""
        self._sign_of_life()

    def on_event(self, number: int, data: bytes) -> None:
        """Turn an event into an observation."""
        if number != symptoms.DISCONNECTED:
            self._heard_at = time.monotonic()
        if number == symptoms.DEVICE:
            self._device = self._types.device.FromString(data)
            self._sign_of_life()
        elif number in (incoming.MESSAGE, incoming.RECEIPT):
            inbound = self._types.inbound(number, data)
            if inbound is not None and self._receive is not None:
                self._receive(inbound)  # after a stop too: WhatsApp thinks we have it
        elif number == symptoms.CONNECTED:
            self._overtaken = self._connected and not self._erred
            self._connected, self._erred, self._connected_by = True, False, self._route.connection
            self._emit(Observation(Kind.CONNECTED, None, symptoms.device_detail(self._device)))
        elif number == symptoms.DISCONNECTED and self._is_late():
            _log.info("The library told of a lost connection after it had logged in again")
            self._overtaken = False
        elif observation := self._types.observation(number, data):
            self._erred = self._erred or number == symptoms.STREAM_ERROR
            self._emit(observation)

    def on_log(self, data: bytes) -> None:
        """Read the line for what no event says."""
        entry = self._types.log_entry.FromString(data)
        if unread := symptoms.unread(entry.Message):
            _log.warning("Message %s could not be read: %s", *unread)
        if observation := symptoms.from_log(entry.Message):
            self._heard_at = time.monotonic()
            self._emit(observation)

    def on_return(self, error: str) -> None:
        """The library's call ended: by stop, or the client is dead."""
        self._returned.set()
        dialled = self._route.last_error
        if "failed to dial" in error and dialled is not None:
            self._emit(symptoms.connect_failed(408, dialled.reason, str(dialled)))
        else:
            self._emit(symptoms.from_return(error))
        self._sign_of_life()

    def _emit(self, observation: Observation) -> None:
        with self._lock:
            if self._stopped or self._ended:
                return
            if observation.kind in symptoms.TERMINAL:
                self._ended = True
            if observation.kind in symptoms.TERMINAL or observation.kind is Kind.DISCONNECTED:
                self._connected = False
            self._observe(observation)
            ended = self._ended
        if ended:
            self._route.abort()

    def _sign_of_life(self) -> None:
        self._written.set()
        self._alive.set()

    def _is_late(self) -> bool:
        """Return whether the loss just told of is that of the connection before the one of the last log-in.

        The library tells of a lost connection in one goroutine and logs in again in another, so on a busy machine we
        may hear of them in the wrong order.
        """
        return self._overtaken and self._connected_by is not None and self._connected_by.usable()

    @property
    def _uuid(self) -> bytes:
        return self._call.uuid

    def _rouse(self) -> None:
        self._route.rouse()

    def _running(self) -> bool:
        return self._connected and not self._stopped and not self._ended

    def _clean(self, patience: float) -> bool:
        """Remove this client from the library; False when that cannot be done within about `patience` seconds."""
        if self._handshake_left() > 0:
            return False
        with self._library.gate.turn(first=True, timeout=patience) as turn:
            if turn is None:
                return False
            if self._call.started and not self._cleaned:
                self._cleaned = True
                self._call.stop()
        self._call.join(STOP_PATIENCE)
        self._route.close()
        return True

    def _clean_later(self) -> None:
        while not self._clean(-1):
            self._returned.wait(self._handshake_left())

    def _handshake_left(self) -> float:
        """Return how many seconds the library may still be inside a handshake."""
        if not self._call.started or self._returned.is_set() or self._route.joined_at <= self._heard_at:
            return 0.0
        return max(0.0, self._route.joined_at + HANDSHAKE - time.monotonic())


def _safeguard(store: str) -> None:
    """Prepare a store at its first start: later the library has it open in this process, even after a stop.

    Raises WhatsAppError. Then the library must not open it: messages could be lost, and it could not be prepared again.
    """
    if store not in _held:
        device_store.safeguard(store)
        _held.add(store)


class NeonizeWhatsApp:
    """The library as a whole, one per process. Implements client.WhatsApp.

    `library` is the path of a Go library to load instead of the bundled one (WHATSAPP_LIBRARY), `proxy` the default
    proxy (WHATSAPP_PROXY); an account's own proxy wins.
    """

    def __init__(self, library: str = "", proxy: str = "") -> None:
        self._path = library or os.environ.get("WHATSAPP_LIBRARY", "")
        self._proxy = proxy or os.environ.get("WHATSAPP_PROXY", "")
        self._relay = Relay()
        self._lock = threading.Lock()
        self._types: EventTypes | None = None
        self._props = b""
        self._closed = False
        self._clients: weakref.WeakSet[NeonizeClient] = weakref.WeakSet()
        self._pairings: weakref.WeakSet[ChildPairing] = weakref.WeakSet()

    def connect(self, store: str, proxy: str, observe: Observe, receive: Receive | None = None) -> NeonizeClient:
        """Start a client on a paired store; see client.WhatsApp."""
        library, types = self._load()
        route = self._relay.open(proxy or self._proxy)
        client = NeonizeClient(library, types, route, observe, receive, store, self._props)
        with self._lock:
            self._clients.add(client)
            closed = self._closed
        if closed:
            client.stop()
        else:
            client.start()
        return client

    def pair(self, store: str, proxy: str, observe: Observe, phone: str = "") -> ChildPairing:
        """Start pairing into a fresh store, in a child process; see client.WhatsApp."""
        pairing = ChildPairing(str(find(self._path)), store, proxy or self._proxy, observe, phone)
        with self._lock:
            self._pairings.add(pairing)
            closed = self._closed
        if closed:
            pairing.cancel()
        return pairing

    def close(self) -> None:
        """Stop everything still running."""
        with self._lock:
            self._closed = True
            clients, pairings = list(self._clients), list(self._pairings)
        for client in clients:
            client._route.abort()  # all at once; what follows is only tidying
        for pairing in pairings:
            pairing.cancel()
        for client in clients:
            client.stop()
        self._relay.close()

    def _load(self) -> tuple[Library, EventTypes]:
        with self._lock:
            library = load(self._path)
            if self._types is None:
                self._types = EventTypes()
                self._props = device_props()
            return library, self._types
