"""After a whole run of the real server, with pairings, a proxy, an API key, nothing secret stands in any log."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.models import Account, ApiKey
from messaging.kinds import Kind
from messaging.models import Chat, Message
from sessions_app.models import Session
from tests.installation import Installation, fresh, wait_for
from tests.test_server import Server
from tests.wasim import Wasim
from waserver import processes

pytestmark = [pytest.mark.real, pytest.mark.slow]

PROXY_PASSWORD = "pr0xy-hunter2"  # noqa: S105
ADMIN_PASSWORD = "adm1n-hunter2"  # noqa: S105


@pytest.fixture
def server(installation: Installation) -> Iterator[Server]:
    installation.environment |= {"ADMIN_PASSWORD": ADMIN_PASSWORD, "LOG_LEVEL": "DEBUG", "PACING": "0"}
    server = Server(installation)
    yield server
    server("stop")


def paired_by_scan(session: Session, sim: Wasim, number: str, seen: set[str]) -> None:
    session.request_pairing("ana")
    row = wait_for(lambda: (r := fresh(session)).qr_text and r, 40)
    assert row
    seen.add(row.qr_text)
    assert sim.phone(number).scan(row.qr_text) == ""


def paired_by_code(session: Session, sim: Wasim, number: str, seen: set[str]) -> None:
    session.request_pairing("ana", phone=number)
    row = wait_for(lambda: (r := fresh(session)).pair_code and r, 40)
    assert row
    seen.add(row.pair_code)
    assert sim.phone(number).enter_code(row.pair_code) == ""


def keys_of(store: Path) -> Iterator[bytes]:
    """Every key of 32 bytes and more in a store."""
    with contextlib.closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM {table}"):  # noqa: S608
                yield from (value for value in row if isinstance(value, bytes) and len(value) >= 32)


def test_no_secret_stands_in_any_log(server: Server, installation: Installation, sim: Wasim) -> None:
    proxy = sim.environment()["WHATSAPP_PROXY"].replace("://", f"://user:{PROXY_PASSWORD}@")
    by_scan = Account.objects.create(label="By scan", proxy=proxy).session
    by_code = Account.objects.create(label="By code").session
    server.says("start")
    seen: set[str] = set()
    paired_by_scan(by_scan, sim, "4915800000001", seen)
    paired_by_code(by_code, sim, "4915800000002", seen)
    for session in (by_scan, by_code):
        installation.until(session, "connected", 60)
    _key, secret = ApiKey.make("test", ["read"])
    for address in ("api/v1/sessions", "admin/"):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{address}",
                                         headers={"Authorization": f"Bearer {secret}"})  # fmt: skip
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=20).close()  # noqa: S310 - loopback
    row = Message.queue(Chat.objects.of(by_scan.account, "4915800000002@s.whatsapp.net"), Kind.TEXT,
                        {"text": "the-words-of-a-message"})  # fmt: skip
    wait_for(lambda: Message.objects.get(pk=row.pk).state not in ("queued", "sending"), 60)
    sim.faults.drop("4915800000001")
    os.kill(server.pid("host-1"), 11)  # Go tells what it was doing
    wait_for(lambda: sim.device("4915800000001").live_sockets, 60)
    refused = Account.objects.create(label="Refused").session
    refused.request_pairing("ana")
    seen.add(wait_for(lambda: fresh(refused).qr_text, 40))
    refused.cancel_pairing("ana")
    wait_for(lambda: fresh(refused).state == "unpaired" and fresh(refused).host is None, 40)
    stores = [Path(fresh(session).store_path) for session in (by_scan, by_code)]
    server.says("stop")
    assert not processes.started_by(f"unix://{server.socket}")

    keys = {key for store in stores for key in keys_of(store)}
    assert len(keys) > 100, "the stores' keys"
    secrets = {PROXY_PASSWORD, ADMIN_PASSWORD, secret, "the-words-of-a-message", os.environ["SECRET_KEY"], *seen}
    for text in seen:
        secrets |= {part for part in re.split("[#,]", text) if len(part) > 20 and not part.startswith("https")}
        secrets.add(text.replace("-", ""))
    secrets |= {base64.b64encode(key).decode().rstrip("=") for key in keys} | {key.hex() for key in keys}
    logs = sorted((installation.folder / "log").iterdir())
    texts = {log.name: log.read_text(errors="replace") for log in logs}
    assert {"host-1.log", "host-1-output.log", "web.log", "web-output.log", "cluster.log", "guard.log"} <= set(texts)
    assert sum(map(len, texts.values())) > 5_000
    found = [(name, secret[:12]) for name, content in texts.items() for secret in secrets if secret in content]
    assert found == []
    assert not re.search(r"linked_devices#|\b\d@[A-Za-z0-9+/=]{20}", "".join(texts.values()))
    assert f'"session": {by_scan.pk}' in texts["host-1.log"]
