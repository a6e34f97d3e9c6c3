"""A real session that writes and reads messages, for the simulator's tests: `python -m tests.neonize_messenger FD`.

Bound to the Go library directly, since the product sends nothing yet. Of its own process, as it can end one. JSON lines
on the socket FD: first {"store": PATH}, then {"to": DIGITS, "text": TEXT}; events and outcomes come back.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import socket
import sys
import threading
from typing import Any

from sessions_app.whatsapp import symptoms
from sessions_app.whatsapp.gocall import GoCall
from sessions_app.whatsapp.library import load
from sessions_app.whatsapp.neonize_client import device_props, messages

MESSAGE, RECEIPT = 17, 18


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Messenger:
    """One session. A gocall.Handler."""

    def __init__(self, line: socket.socket, store: str) -> None:
        self._line, self._lock = line, threading.Lock()
        self._pb = messages()
        self._e2e = importlib.import_module("neonize.proto.waE2E.WAWebProtobufsE2E_pb2")
        self._library = load(os.environ["WHATSAPP_LIBRARY"])
        self._send = ctypes.CDLL(os.environ["WHATSAPP_LIBRARY"]).SendMessage
        self._send.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
        self._send.restype = ctypes.POINTER(_Bytes)
        events = bytes([symptoms.CONNECTED, symptoms.DISCONNECTED, MESSAGE, RECEIPT])
        self._call = GoCall(self._library, store, os.environ["WHATSAPP_PROXY"], events, device_props(), self)
        with self._library.gate.turn():
            self._call.start()

    def send(self, to: str, text: str) -> None:
        """Write to a number; says how it went."""
        jid = self._pb.JID(User=to, RawAgent=0, Device=0, Integrator=0, Server="s.whatsapp.net", IsEmpty=False)
        whom, what = jid.SerializeToString(), self._e2e.Message(conversation=text).SerializeToString()
        answer = self._send(self._call.uuid, whom, len(whom), what, len(what))
        data = ctypes.string_at(answer.contents.data, answer.contents.size)
        outcome = self._pb.SendMessageReturnFunction.FromString(data)
        self._say(on="sent", text=text, id=outcome.SendResponse.ID, error=outcome.Error)

    def on_event(self, number: int, data: bytes) -> None:
        """Tell what happened."""
        if number == MESSAGE:
            message = self._pb.Message.FromString(data)
            source = message.Info.MessageSource
            self._say(on="message", id=message.Info.ID, text=message.Message.conversation, mine=source.IsFromMe,
                      sender=source.SenderAlt.User)  # fmt: skip
        elif number == RECEIPT:
            receipt = self._pb.Receipt.FromString(data)
            self._say(on="receipt", ids=list(receipt.MessageIDs), type=int(receipt.Type))
        elif number in (symptoms.CONNECTED, symptoms.DISCONNECTED):
            self._say(on="connected" if number == symptoms.CONNECTED else "disconnected")

    def on_qr(self, text: str) -> None:
        """The store holds no device."""
        self._say(on="no device")

    def on_status(self, status: str) -> None:
        """Nothing is paired here."""

    def on_log(self, data: bytes) -> None:
        """Tell it, for the message of a failing test."""
        self._say(on="log", line=self._pb.LogEntry.FromString(data).Message)

    def on_return(self, error: str) -> None:
        """The session is over."""
        self._say(on="ended", error=error)

    def _say(self, **message: Any) -> None:
        with self._lock:
            self._line.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    line = socket.socket(fileno=int(sys.argv[1]))
    words = line.makefile("rb")
    messenger = Messenger(line, json.loads(words.readline())["store"])
    for word in words:
        threading.Thread(target=messenger.send, kwargs=json.loads(word), daemon=True).start()
    os._exit(0)  # the Go library's threads may still want to call back
