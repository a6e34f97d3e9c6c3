"""One client's connection, from the handshake to its end: it logs in or pairs, then asks and is answered."""

from __future__ import annotations

import asyncio
import logging
import time
from itertools import count

from . import post, queries
from .binary_xml import BinaryXmlError, Node, node
from .device import Device
from .faults import Refusal, stream_error
from .jid import SERVER
from .network import Network
from .offer import Offer
from .protobuf import Fields, decode
from .wire import NoiseError, Wire, WireError

log = logging.getLogger(__name__)

USERNAME, DEVICE, PAIRING_DATA = 1, 18, 19
"""Fields of a client's payload."""

ANSWER_WAIT = 15.0
"""Seconds a client has to answer what the server asks."""


class Gone(Exception):
    """The client went away, or did not answer."""


class Connection:
    """Runs on the server's loop. `device` is set while it is logged in, `offer` while it pairs."""

    def __init__(self, network: Network, wire: Wire) -> None:
        self.network, self.wire = network, wire
        self.device: Device | None = None
        self.offer: Offer | None = None
        self.number = ""
        self._ids = count(1)
        self._asked: dict[str, asyncio.Future[Node]] = {}

    async def run(self) -> None:
        """Serve the client until it is gone."""
        self.network.connections.add(self)
        try:
            static, payload = await self.wire.open(self.network.trust)
            self._welcome(static, decode(payload))
            while stanza := await self.wire.read():
                self._take(stanza)
        except (WireError, NoiseError, BinaryXmlError, ValueError) as error:
            log.info("a connection of %s ends: %s", self.number or "nobody yet", error)
        finally:
            self.wire.close()
            self.network.gone(self)
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(Gone("the client went away"))

    def send(self, stanza: Node) -> None:
        """Send a stanza, unless a fault forbids it or delays it."""
        troubles = self.network.troubles
        if troubles.silent(self.number):
            return
        if troubles.delay:
            asyncio.get_running_loop().call_later(troubles.delay, self.wire.send, stanza)
        else:
            self.wire.send(stanza)

    def answer(self, question: Node, *children: Node) -> None:
        """Answer a query."""
        self.send(node("iq", {"from": SERVER, "type": "result", "id": question["id"]}, *children))

    def refuse(self, question: Node, code: int, text: str) -> None:
        """Answer a query with an error."""
        error = node("error", {"code": code, "text": text})
        self.send(node("iq", {"from": SERVER, "type": "error", "id": question["id"]}, error))

    async def ask(self, stanza: Node) -> Node:
        """Send a query of the server's own and return the answer. Raises Gone."""
        identity = stanza.attributes["id"] = f"wasim-{next(self._ids)}"
        future = asyncio.get_running_loop().create_future()
        self._asked[str(identity)] = future
        self.send(stanza)
        try:
            async with asyncio.timeout(ANSWER_WAIT):
                return await future
        except TimeoutError:
            raise Gone("the client did not answer") from None
        finally:
            del self._asked[str(identity)]

    def end(self, last: Node) -> None:
        """Say a last word and close."""
        self.wire.send(last)
        self.wire.close()

    def replace(self) -> None:
        """End because another connection took this one's place."""
        if self.device is not None:
            self.device.replaced += 1
        self.end(stream_error("conflict replaced"))

    def _welcome(self, static: bytes, payload: Fields) -> None:
        username, pairing = payload.number(USERNAME), payload.message(PAIRING_DATA)
        if username is not None:
            self._log_in(str(username), payload.number(DEVICE) or 0, static)
        elif self.network.troubles.pairing_refusal is not None:
            self.end(Refusal(self.network.troubles.pairing_refusal).stanza())
        elif pairing is not None:
            self.offer = Offer(self, static)
            self.network.offers.update(dict.fromkeys(self.offer.references, self.offer))
            self.send(self.offer.stanza())
            self.network.changed()
        else:
            raise WireError("the client neither logs in nor pairs")

    def _log_in(self, number: str, index: int, static: bytes) -> None:
        self.number = number
        account = self.network.accounts.get(number)
        device = account.devices.get(index) if account else None
        if device is not None:
            device.tried()
            self.network.changed()
        refusal = self.network.troubles.refusal(number)
        if refusal is None and (device is None or device.noise != static):
            refusal = Refusal(401)
        if refusal is not None:
            self.end(refusal.stanza())
            return
        assert device is not None
        if self.network.troubles.silent(number):
            return
        self.device = device
        self.network.went_live(self, device)
        self.send(node("success", {"t": int(time.time()), "lid": device.lid}))
        post.deliver_waiting(self, device)

    def _take(self, stanza: Node) -> None:
        log.debug("%s: %s", self.number, stanza)
        if self.network.troubles.silent(self.number):
            return
        if stanza.tag == "iq" and stanza["type"] in ("result", "error"):
            future = self._asked.get(stanza["id"])
            if future is not None and not future.done():
                future.set_result(stanza)
        elif stanza.tag == "iq":
            queries.answer(self, stanza)
        elif self.device is not None:
            post.take(self, self.device, stanza)
