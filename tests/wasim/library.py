"""A private copy of the Go library that trusts the simulator's root key instead of WhatsApp's."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

WHATSAPP_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")


def bundled() -> Path:
    """Return the library inside the installed neonize package, without importing it."""
    spec = importlib.util.find_spec("neonize")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("The package neonize is not installed.")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return Path(spec.submodule_search_locations[0]) / f"neonize-linux-{machine}.so"


def patched(folder: Path, root: bytes) -> Path:
    """Return the copy in `folder`, made at the first call. Raises RuntimeError when the key is not found once."""
    copy = folder / f"neonize-{root.hex()[:16]}.so"
    if not copy.exists():
        original = bundled().read_bytes()
        if original.count(WHATSAPP_ROOT) != 1:
            raise RuntimeError(f"WhatsApp's root key is not in {bundled()} exactly once.")
        draft = copy.with_suffix(".part")
        draft.write_bytes(original.replace(WHATSAPP_ROOT, root))
        draft.rename(copy)
    return copy
