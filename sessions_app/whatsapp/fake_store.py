"""The fake's device store: a JSON file with the identity of the paired phone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

_HIDING = 7


@dataclass(frozen=True)
class Identity:
    """A paired phone, as observations tell it."""

    phone: str
    lid: str
    push_name: str
    platform: str

    @classmethod
    def of(cls, phone: str, push_name: str) -> Identity:
        """Return the identity of this number, always the same."""
        return cls(phone, f"{int(phone) + _HIDING}@lid", push_name, "android")

    @staticmethod
    def phone_of(address: str) -> str:
        """Return the number behind an address of either kind."""
        user, _, server = address.partition("@")
        return str(int(user) - _HIDING) if server == "lid" else user

    def detail(self) -> dict[str, str]:
        """Return it as the detail of an observation."""
        return asdict(self)


class FakeStore:
    """One store file."""

    def __init__(self, store: str) -> None:
        self._path = Path(store)

    def read(self) -> Identity | None:
        """Return who is paired, or None."""
        try:
            fields = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return Identity(**fields) if fields else None

    def write(self, identity: Identity) -> None:
        """Pair."""
        self._path.write_text(json.dumps(asdict(identity)))

    def clear(self) -> None:
        """Delete the keys, as the library does: the file stays."""
        if self._path.exists():
            self._path.write_text("{}")

    def delete(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
