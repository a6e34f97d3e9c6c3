"""The pairing process: `python -m sessions_app.whatsapp.pairing_child FD`, started by pairing.ChildPairing only.

One loop takes everything (the parent's words, the library's callbacks, its own deadlines) from one queue and answers
with observations. It never returns from a deadline: whatever hangs inside the library, the process ends by os._exit.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from sessions_app.whatsapp import symptoms
from sessions_app.whatsapp.client import Kind, Observation, PairFailure, WhatsAppError
from sessions_app.whatsapp.gocall import GoCall
from sessions_app.whatsapp.library import load
from sessions_app.whatsapp.neonize_client import EventTypes, device_props, messages
from sessions_app.whatsapp.relay import Relay, Route
from sessions_app.whatsapp.upstream import DialError

#: Lifetimes of the codes WhatsApp shows one after the other (whatsmeow qrchan.go), in seconds.
FIRST_QR, NEXT_QR, QR_COUNT = 60, 20, 6
CODE_LIFETIME = 160
#: Seconds allowed for: the first QR, one log-in after the scan, the host's verdict.
QR_WAIT, LOGIN_WAIT, VERDICT_WAIT = 30.0, 30.0, 30.0
#: A socket that closes this early did not run out of codes: the network broke.
CODES_LAST = FIRST_QR + NEXT_QR * (QR_COUNT - 1) - 5
#: The library can lose WhatsApp's last word when the socket closes right behind it: a refusal, or the 515 that asks
#: for the log-in. So what broke before a code was shown, or after a scan, is tried again.
ATTEMPTS = 4
LOG_WAIT, LOGIN_STEP, RETRY_DELAY = 0.3, 1.0, 1.0

#: What happened, with what, and in which run of the library (0: not in one).
Item = tuple[str, Any, int]


class Ear:
    """Hears one run of the library, on its threads, and queues what it hears. A gocall.Handler."""

    def __init__(self, items: queue.SimpleQueue[Item], run: int) -> None:
        self._items, self._run = items, run

    def on_qr(self, text: str) -> None:
        """Queue it."""
        self._items.put(("qr", text, self._run))

    def on_status(self, status: str) -> None:
        """Queue it."""
        self._items.put(("status", status, self._run))

    def on_event(self, number: int, data: bytes) -> None:
        """Queue it."""
        self._items.put(("event", (number, data), self._run))

    def on_log(self, data: bytes) -> None:
        """Queue it."""
        self._items.put(("log", data, self._run))

    def on_return(self, error: str) -> None:
        """Queue it."""
        self._items.put(("returned", error, self._run))


class Child:
    """One pairing, from the first QR to the host's verdict."""

    def __init__(self, say: Callable[[Observation], None], order: dict[str, str]) -> None:
        self._say, self._order = say, order
        self.items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._library = load(order["library"])
        self._types, self._pb, self._props = EventTypes(), messages(), device_props()
        self._relay = Relay()
        self._route: Route | None = None
        self._call: GoCall | None = None
        self._codes = self._attempts = self._runs = 0
        self._first_code_at = 0.0
        self._device: Any = None
        self._verdict: tuple[PairFailure, str] | None = None  # what the status said; the log may know better
        self._scanned = self._connected = self._paired = False
        self._deadline = time.monotonic() + QR_WAIT
        self._login_until = 0.0
        self._steps: dict[str, Callable[[Any], None]] = {
            "qr": self._qr, "code": self._code, "status": self._status, "event": self._event,
            "log": self._log, "returned": self._returned, "do": self._do,
        }  # fmt: skip

    def run(self) -> NoReturn:
        """Pair; ends the process."""
        self._start()
        while True:
            try:
                name, value, run = self.items.get(timeout=max(0.0, self._deadline - time.monotonic()))
            except queue.Empty:
                self._too_late()
            else:
                if run in (0, self._runs):  # nothing of an earlier run counts
                    self._steps[name](value)

    # -- steps, on the main thread

    def _start(self) -> None:
        self._route = self._relay.open(self._order["proxy"])
        try:
            self._route.dial()
        except DialError as error:
            self._lost(error.reason, str(error))
            return
        self._runs += 1
        dialled = threading.Event()
        self._route.on_connect = dialled.set
        ear = Ear(self.items, self._runs)
        self._call = GoCall(
            self._library, self._order["store"], self._route.url, symptoms.SUBSCRIBED, self._props, ear
        )
        with self._library.gate.turn():
            self._call.start()
            dialled.wait(5)  # no other client in this process: until the maps are written is enough

    def _qr(self, text: str) -> None:
        if self._scanned:
            self._fail(PairFailure.UNEXPECTED, "WhatsApp forgot the device right after the pairing.")
        lifetime = NEXT_QR if self._codes else FIRST_QR
        self._codes += 1
        if self._codes == 1:
            self._first_code_at = time.monotonic()
            self._deadline = time.monotonic() + FIRST_QR + NEXT_QR * QR_COUNT + 15
            if self._order["phone"]:
                threading.Thread(target=self._ask_code, daemon=True).start()
        if not self._order["phone"]:
            self._say(Observation(Kind.QR, None, {"text": text, "expires_at": _after(lifetime)}))

    def _ask_code(self) -> None:
        assert self._call is not None
        parameters = self._pb.PairPhoneParams(
            phone=self._order["phone"], showPushNotification=True, clientType=1, clientDisplayName="Chrome (Linux)"
        )
        answer = self._library.pair_phone(self._call.uuid, parameters.SerializeToString())
        self.items.put(("code", self._pb.PairPhoneReturnFunction.FromString(answer), 0))

    def _code(self, answer: Any) -> None:
        if answer.Error or not answer.Code:
            self._fail(PairFailure.CODE_REFUSED, "WhatsApp gave no code for this number; check it, or wait and retry.")
        self._deadline = time.monotonic() + CODE_LIFETIME + 15
        self._say(Observation(Kind.PAIR_CODE, None, {"text": answer.Code, "expires_at": _after(CODE_LIFETIME)}))

    def _status(self, status: str) -> None:
        if status == "success":
            self._await_login()
            return
        reason, error = symptoms.PAIR_STATUSES.get(status, PairFailure.UNEXPECTED), f"WhatsApp ended it ({status})."
        early = not self._codes or time.monotonic() - self._first_code_at < CODES_LAST
        if reason is PairFailure.TIMEOUT and early:
            reason, error = PairFailure.NETWORK, "The connection to WhatsApp broke before a phone was paired."
        # the library's log often knows the cause, and comes from another thread: give it a moment
        self._verdict, self._deadline = (reason, error), time.monotonic() + LOG_WAIT

    def _await_login(self) -> None:
        self._login_until = time.monotonic() + LOGIN_WAIT
        self._deadline = time.monotonic() + LOGIN_STEP

    def _device_known(self, data: bytes) -> None:
        self._device = self._types.device.FromString(data)
        if not self._scanned:
            self._scanned = True
            detail = symptoms.device_detail(self._device)
            del detail["push_name"]
            self._say(Observation(Kind.PAIR_SCANNED, None, detail))

    def _event(self, event: tuple[int, bytes]) -> None:
        number, data = event
        if number == symptoms.DEVICE:
            self._device_known(data)
        elif number == symptoms.CONNECTED:
            self._connected = True
            if not self._paired:
                self._paired = True
                self._deadline = time.monotonic() + VERDICT_WAIT
                self._say(Observation(Kind.PAIRED, None, symptoms.device_detail(self._device)))
        elif observation := self._types.observation(number, data):
            if observation.kind is Kind.DISCONNECTED:
                self._connected = False
            self._refused(observation)

    def _log(self, data: bytes) -> None:
        line = self._types.log_entry.FromString(data).Message
        if failure := symptoms.pair_failure_from_log(line):
            self._fail(failure, "The phone's answer did not fit this pairing; start again.")
        if observation := symptoms.from_log(line):
            self._refused(observation)

    def _refused(self, observation: Observation) -> None:
        """End for what ends a client; other observations say nothing to a pairing."""
        if observation.kind not in symptoms.TERMINAL or self._paired:
            return
        if observation.kind is Kind.OUTDATED:
            self._fail(PairFailure.OUTDATED, "WhatsApp no longer accepts this client version; update waserver.")
        cause, error = str(observation.detail.get("reason", "")), str(observation.detail.get("error", ""))
        if observation.kind is Kind.CONNECT_FAILED and cause != "refused":
            self._lost(cause, error)
        else:
            code = "" if observation.code is None else f" with code {observation.code}"
            self._fail(PairFailure.UNEXPECTED, f"WhatsApp refused the pairing{code}.", observation.code)

    def _returned(self, error: str) -> None:
        if self._paired:
            return
        self._refused(symptoms.from_return(error))

    def _lost(self, cause: str, error: str) -> None:
        """The connection failed: try again where that can help, else end."""
        self._attempts += 1
        dialled = self._route.last_error if self._route is not None else None
        worth_it = self._scanned or (cause == "disconnected" and not self._codes)
        if not worth_it or self._attempts >= ATTEMPTS:
            if dialled is not None:
                cause, error = dialled.reason, str(dialled)
            self._fail(PairFailure.NETWORK, error, cause=cause)
        self._close_call()
        time.sleep(RETRY_DELAY * (self._attempts - 1))
        self._verdict, self._deadline = None, time.monotonic() + QR_WAIT
        if self._scanned:
            self._await_login()
        self._start()

    def _do(self, verdict: str) -> None:
        if verdict == "unlink" and self._call is not None and self._connected:
            self._library.logout(self._call.uuid)
        self._close_call()
        _exit(0)

    def _too_late(self) -> None:
        if self._verdict is not None:
            reason, error = self._verdict
            if reason is not PairFailure.NETWORK:
                self._fail(reason, error)
            self._lost("disconnected", error)
        elif self._paired:  # no verdict: the keys stay, the host finds the store
            self._do("keep")
        elif self._login_until:
            if self._route is None or not self._route.in_use() or time.monotonic() > self._login_until:
                self._lost("no_answer", "WhatsApp did not let the new device log in.")
            else:
                self._deadline = time.monotonic() + LOGIN_STEP
        elif self._codes:
            self._fail(PairFailure.TIMEOUT, "The codes ran out before a phone was paired.")
        else:
            self._fail(PairFailure.NETWORK, "WhatsApp did not answer in time.", cause="no_answer")

    def _fail(self, reason: PairFailure, error: str, code: int | None = None, cause: str = "") -> NoReturn:
        detail = {"reason": reason, "error": error} | ({"cause": cause} if cause else {})
        self._say(Observation(Kind.PAIR_FAILED, code, detail))
        _exit(0)

    def _close_call(self) -> None:
        """Cut the connection and stop the client, so that nothing is half written when the process ends."""
        if self._route is not None:
            self._route.abort()
        if self._call is not None:
            with self._library.gate.turn(first=True):
                self._call.stop()
            self._call.join(0.5)  # an unpaired one never ends


def _after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _exit(status: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(status)


def main() -> NoReturn:
    """Take the order from the parent, then pair. Ends with the parent."""
    line = socket.socket(fileno=int(sys.argv[1]))
    words = line.makefile("rb")
    order = json.loads(words.readline() or b"null")
    if order is None:
        _exit(0)

    def say(observation: Observation) -> None:
        text = json.dumps({"kind": observation.kind, "code": observation.code, "detail": dict(observation.detail),
                           "at": observation.at.isoformat()})  # fmt: skip
        try:
            line.sendall(text.encode() + b"\n")
        except OSError:
            _exit(0)  # the parent is gone

    try:
        child = Child(say, order)
    except WhatsAppError as error:
        say(Observation(Kind.PAIR_FAILED, None, {"reason": PairFailure.UNEXPECTED, "error": str(error)}))
        _exit(1)

    def listen() -> None:
        for word in words:
            child.items.put(("do", json.loads(word)["do"], 0))
        _exit(0)  # the parent ended, whatever this process was doing

    threading.Thread(target=listen, name="whatsapp-parent", daemon=True).start()
    child.run()


if __name__ == "__main__":
    main()
