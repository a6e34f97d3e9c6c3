"""A client library that holds 300 MB while the file `hog` lies in VAR_DIR; otherwise it is the fake."""

from __future__ import annotations

import os
from pathlib import Path

from sessions_app.whatsapp.fake import FakeWhatsApp


class Hog(FakeWhatsApp):
    """Takes its memory when the host loads it, with its first session."""

    def __init__(self, library: str = "", proxy: str = "") -> None:
        super().__init__(library, proxy)
        hungry = (Path(os.environ["VAR_DIR"]) / "hog").exists()
        self.held = bytearray(os.urandom(1_000_000)) * 300 if hungry else bytearray()
