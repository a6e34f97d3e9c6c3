"""Connections at rest doze: what their keepalives say, and the answers, are passed on every two seconds, all together.

Every connection says that it lives once in 20 to 30 s. With hundreds of them somebody does so every few hundredths of
a second, and waking up for each, here and again in the library, takes more processor time than all else a host at rest
does. Only that waits: anything longer than a keepalive, anything of WhatsApp's but the answer or behind it, a second
word within seconds and whatever the host is about to ask for (`rouse`) wake the connection, and it is served at once
again.
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessions_app.whatsapp.tunnel import Inbound

#: Connections below which nobody dozes: that would spare nothing.
_FEW = 20
#: Seconds of silence on both sides after which a connection dozes.
_AFTER = 10.0
#: Seconds between two looks at those that doze, while there is something to see. The library gives an answer 10 s: what
#: it says waits for one look, and an answer that is not there by the next for none, so 8 are left for the way and back.
_EVERY = 2.0
#: Bytes of a keepalive or its answer inside TLS, with room to spare.
_KEEPALIVE = 160
#: Bytes taken from a connection at once.
_MOST = 65536


class Doze:
    """Those of one relay. On its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._selector = selectors.DefaultSelector()
        self._awake: set[Inbound] = set()
        self._asleep: dict[Inbound, int] = {}  # and their file descriptors
        self._asked: set[Inbound] = set()  # asleep, have said that they live, and have not heard the answer
        self._held: list[Inbound] = []  # whose answers are read at the next look
        self._sweeping = self._looking = self._listening = False

    def __contains__(self, inbound: Inbound) -> bool:
        return inbound in self._asleep

    def add(self, inbound: Inbound) -> None:
        """Have a connection doze whenever it rests."""
        self._awake.add(inbound)
        self._sweep_later()

    def discard(self, inbound: Inbound) -> None:
        """Forget a connection: it has ended."""
        self._awake.discard(inbound)
        self._asked.discard(inbound)
        if (descriptor := self._asleep.pop(inbound, None)) is not None:
            self._selector.unregister(descriptor)

    def rouse(self, inbound: Inbound) -> None:
        """Serve this connection at once from now on."""
        if inbound in self._asleep:
            self.discard(inbound)
            self.add(inbound)
            inbound.read(True)
            inbound.let_wait(0)

    def said(self, inbound: Inbound, size: int, silent: float) -> None:
        """A dozing connection said something, after so many seconds of silence."""
        if size > _KEEPALIVE or silent < _AFTER:
            self.rouse(inbound)
            return
        self._asked.add(inbound)
        self._held.append(inbound)
        inbound.let_wait(_KEEPALIVE)

    def heard(self, inbound: Inbound, size: int) -> None:
        """WhatsApp said something to a dozing connection."""
        if inbound in self._asked and size <= _KEEPALIVE:
            self._asked.discard(inbound)
        else:
            self.rouse(inbound)

    def close(self) -> None:
        """Let go of what the operating system lent."""
        self._selector.close()

    def _sweep_later(self) -> None:
        if self._awake and not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_AFTER, self._sweep)

    def _sweep(self) -> None:
        """Lay down who rests."""
        self._sweeping = False
        if len(self._awake) + len(self._asleep) >= _FEW:
            now = time.monotonic()
            for inbound in [each for each in self._awake if each.quiet_since() <= now - _AFTER]:
                self._awake.discard(inbound)
                self._asleep[inbound] = descriptor = inbound.descriptor()
                self._selector.register(descriptor, selectors.EVENT_READ, inbound)
                inbound.read(False)
            if self._asleep:
                self._listen()
        self._sweep_later()

    def _listen(self) -> None:
        """Wake up for the first that says something, then no more."""
        if not (self._listening or self._looking):
            self._listening = True
            self._loop.add_reader(self._selector.fileno(), self._look_later)

    def _look_later(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._selector.fileno())
        if not self._looking:
            self._looking = True
            self._loop.call_at((math.floor(self._loop.time() / _EVERY) + 1) * _EVERY, self._look)

    def _look(self) -> None:
        """Pass on what those that doze said, and the answers to what they said before."""
        self._looking = False
        held, self._held = self._held, []
        for inbound in held:
            inbound.let_wait(0)
        spoke = self._selector.select(0)
        if held or spoke:
            self._look_later()
        else:
            self._listen()
        for key, _events in spoke:  # last: whatever fails here, there is a next look
            self._take(key.data, key.fd)

    def _take(self, inbound: Inbound, descriptor: int) -> None:
        """Have a connection say what it has to say: read here, as the event loop does not look at it now."""
        try:
            data = os.read(descriptor, _MOST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            inbound.data_received(data)
        else:
            self.rouse(inbound)  # it has ended: the event loop sees to that
