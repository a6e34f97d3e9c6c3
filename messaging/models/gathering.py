"""Writing together what a thread adds bit by bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """What a thread adds while `together` holds is written at its end, in its order; anything else at once.

    In the caller's transaction; what ends with an exception is not written. May be nested: the outermost writes.
    """

    def __init__(self, write: Callable[[list[T]], object]) -> None:
        self._write, self._here = write, threading.local()

    def add(self, item: T) -> None:
        """Write it, now or with the others."""
        together = self.gathered
        if together is None:
            self._write([item])
        else:
            together.append(item)

    @property
    def gathered(self) -> list[T] | None:
        """Return what is to be written later, None when what is added is written at once."""
        items: list[T] | None = getattr(self._here, "items", None)
        return items

    @contextmanager
    def together(self) -> Iterator[None]:
        """Gather within."""
        outer, items = self.gathered, list[T]()
        self._here.items = items
        try:
            yield
        finally:
            self._here.items = outer
        if outer is not None:
            outer.extend(items)
        elif items:
            self._write(items)
