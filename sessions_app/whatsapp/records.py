"""TLS records, seen from outside: where in a stream the server says goodbye."""

from __future__ import annotations

_HEAD = 5
_ALERT, _DATA = 21, 23
#: An alert as TLS 1.3 hides it: two bytes, the true type, and the tag of the cipher.
_HIDDEN_ALERT = 2 + 1 + 16


class Records:
    """Follows one direction of a TLS connection. What is no TLS at all is never taken for a goodbye for long."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # bytes of the record under way

    def before_goodbye(self, data: bytes) -> int:
        """Return how many of the next bytes come before an alert begins: all of them, where there is none.

        A few other records are as short as an alert (an empty WebSocket ping): they count as one too.
        """
        at, found = 0, len(data)
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            begin = at
            part = data[at : at + _HEAD - len(self._head)]
            self._head += part
            at += len(part)
            if len(self._head) == _HEAD:
                kind, self._left = self._head[0], int.from_bytes(self._head[3:], "big")
                self._head = b""
                if kind == _ALERT or (kind == _DATA and self._left == _HIDDEN_ALERT):
                    found = min(found, begin)
        return found
