"""Apprise behind two calls, without Django: imported by `manage.py deliver_alerts`, run by itself to check a URL.

    python -P monitoring/apprise_sender.py < FILE_WITH_THE_URL     prints {"service": ..., "error": ...}

The URL comes by standard input: what stands in a command line every user of the machine can read.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

#: Seconds one message may take, all servers of its channel together.
PATIENCE = 60

#: severity -> Apprise's kind of message, which most services show as a colour or a sign.
KINDS = {"": "info", "warning": "warning", "critical": "failure", "resolved": "success"}

_HINT = (
    "Write it like mailtos://user:password@smtp.example.com, tgram://bot-token/chat or json://host/path; "
    "https://github.com/caronc/apprise/wiki lists every service."
)


def service_of(url: str) -> tuple[str, str]:
    """Return the service's name and "", or "" and a sentence when Apprise cannot use the URL."""
    import apprise

    scheme = url.partition("://")[0].strip().lower() if "://" in url else ""
    if not scheme:
        return "", f"This is not an Apprise URL. {_HINT}"
    with _quiet():
        channel = apprise.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
        if channel is not None:
            return str(channel.service_name), ""
        names = {schema for plugin in apprise.Apprise().details()["schemas"]
                 for schema in (*(plugin["protocols"] or ()), *(plugin["secure_protocols"] or ()))}  # fmt: skip
    if scheme not in names:
        return "", f"There is no service “{scheme}://”. {_HINT}"
    return "", f"This “{scheme}://” address is incomplete or wrong: the service's page says what belongs in it. {_HINT}"


def send(url: str, title: str, body: str, severity: str) -> str:
    """Send one message; return "" or why it did not arrive, in a sentence without secrets. Bounded by PATIENCE."""
    import apprise

    said: list[str] = []
    with _quiet(said):
        sender = apprise.Apprise(asset=_asset())
        if not sender.add(url):
            return "The channel's address cannot be used any more: enter it again."
        try:
            with _bounded():
                arrived = sender.notify(title=title, body=body, notify_type=KINDS[severity],
                                        body_format=apprise.NotifyFormat.TEXT)  # fmt: skip
        except TimeoutError:
            return f"The service did not answer within {PATIENCE} s."
        except Exception as error:  # noqa: BLE001 - a plugin's fault is this channel's failure, not the process's
            return without_secrets(f"{type(error).__name__}: {error}", url)
    if arrived:
        return ""
    return without_secrets(" ".join(said[-3:]) or "The service refused the message without a reason.", url)


def without_secrets(text: str, url: str) -> str:
    """Return `text` without any part of the URL that may be a password, token or key; its host may stay."""
    rest = url.partition("://")[2]
    host = re.split(r"[/?]", rest)[0].rpartition("@")[2].partition(":")[0]
    for part in sorted(re.split(r"[/:@?&=,]+", rest), key=len, reverse=True):
        for secret in {part, unquote(part)}:
            if len(secret) >= 4 and secret != host:
                text = text.replace(secret, "•••")
    return text[:500]


def _asset() -> Any:
    import apprise

    return apprise.AppriseAsset(app_id="waserver", app_desc="waserver", async_mode=False, secure_logging=True)


@contextmanager
def _quiet(said: list[str] | None = None) -> Iterator[None]:
    """Keep Apprise's log out of ours; its warnings and errors go to `said`. What it warns of is its own affair."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if said is not None:
                said.append(record.getMessage())

    log = logging.getLogger("apprise")
    kept, before, level = Keep(logging.WARNING), log.propagate, log.level
    log.propagate, handlers, log.handlers = False, log.handlers, [kept]
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.propagate, log.handlers = before, handlers
        log.setLevel(level)


@contextmanager
def _bounded() -> Iterator[None]:
    """Raise TimeoutError after PATIENCE. By signal: plugins block in sockets of their own. Main thread only."""

    def over(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    service, problem = service_of(sys.stdin.read().strip())
    print(json.dumps({"service": service, "error": problem}))
