"""MariaDB, on a real server (make test-services): isolation, indexes of the hot queries, lost connections."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.conf import settings
from django.db import close_old_connections, connection
from django.db.models import QuerySet
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account, ApiKey
from messaging import answering
from messaging.api.auth import sender_of
from messaging.courier import courier
from messaging.courier.inbox import Known
from messaging.dispatcher import Dispatcher
from messaging.kinds import Kind
from messaging.models import Chat, Event, Message, StreamReader
from messaging.models.event import EventKind
from messaging.models.message import Direction
from messaging.models.webhook import Delivery, DeliveryState
from messaging.states import MessageState
from monitoring.models import HealthSample, Resolution
from sessions_app.host import host as session_host
from sessions_app.live_back import live_back
from sessions_app.models import Host, Session, SessionCommand, SessionEvent
from sessions_app.whatsapp import inbound
from sessions_app.whatsapp.contents import Text
from sessions_app.whatsapp.inbound import Person
from tests.installation import Installation, wait_for
from tests.wasim import Wasim

pytestmark = pytest.mark.skipif(not os.environ.get("TEST_DATABASE_URL", "").startswith("mysql"),
                                reason="TEST_DATABASE_URL names no MariaDB (make test-services)")  # fmt: skip

_numbers = count(4_915_800_000_001)
_ACCOUNTS = 1500


def one(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_transactions_read_what_is_committed_and_text_is_whole() -> None:
    assert one("SELECT @@SESSION.tx_isolation") == "READ-COMMITTED"
    assert one("SELECT @@SESSION.character_set_client") == "utf8mb4"
    Account.objects.create(label="Zoë 🐘")
    assert Account.objects.get(label="Zoë 🐘")
    assert connection.settings_dict["CONN_HEALTH_CHECKS"]
    assert connection.settings_dict["CONN_MAX_AGE"] != 0
    # Shorter than a lease, and no longer than it.
    assert one("SELECT @@SESSION.innodb_lock_wait_timeout") == settings.LEASE.total_seconds() // 3
    assert one("SELECT @@SESSION.idle_transaction_timeout") == settings.LEASE.total_seconds()


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_locked_holds_up_neither_hosts_nor_live_back() -> None:
    """A machine cut off inside a transaction cannot unlock it; who waits for it cannot renew leases meanwhile."""
    now = timezone.now()
    host = Host.objects.create(name="host-1", heartbeat_at=now)
    rows = [Account.objects.create(label=f"Account {n}", desired="online").session for n in range(3)]
    Session.objects.all().update(state="waiting", store="x.sqlite3", due_at=None)
    Session.objects.filter(pk__in=[row.pk for row in rows[:2]]).update(host=host, lease_expires_at=now)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            for row in rows[1:]:
                cursor.execute("UPDATE sessions_app_session SET version = version + 1 WHERE id = %s", [row.pk])
        later = now + timedelta(seconds=1)
        assert live_back(later) == {"expired": 1, "due": 0, "fleet_opened": 0, "fleet_closed": 0}
        assert Session.objects.expire_leases(later, "host-2") == 0
        assert list(Session.objects.claimable(later)) == rows[:1]
        other.rollback()
        assert Session.objects.expire_leases(later, "host-2") == 1
        assert live_back(later)["due"] == 1
    finally:
        other.close()


@pytest.fixture
def filled(transactional_db: None) -> Account:
    """A provider's tables: many accounts, of which few need anything, and their history. ANALYZE commits."""
    now = timezone.now()
    hosts = [Host.objects.create(name=f"host-{n}", heartbeat_at=now) for n in range(30)]
    Account.objects.bulk_create(Account(label=f"Account {n}", phone=f"62812{n:08}") for n in range(_ACCOUNTS))
    accounts = list(Account.objects.order_by("pk"))
    Session.objects.bulk_create(
        Session(account=account, state="connected", host=hosts[n % 30], store=f"{n}.sqlite3",
                lease_expires_at=now + timedelta(hours=1, seconds=n % 30)) for n, account in enumerate(accounts)
    )  # fmt: skip
    sessions = list(Session.objects.order_by("pk"))
    SessionEvent.objects.bulk_create(
        (SessionEvent(session=sessions[n % _ACCOUNTS], at=now - timedelta(minutes=n), kind="connected")
         for n in range(10_000)), batch_size=2000,
    )  # fmt: skip
    SessionCommand.objects.bulk_create(
        SessionCommand(session=sessions[n % _ACCOUNTS], verb="start", finished_at=now) for n in range(5000)
    )
    Chat.objects.bulk_create(Chat(account=account, jid=f"{n}@s.whatsapp.net") for n, account in enumerate(accounts))
    chats = list(Chat.objects.order_by("pk"))
    Message.objects.bulk_create(
        (Message(account_id=chats[n % _ACCOUNTS].account_id, chat=chats[n % _ACCOUNTS], direction=Direction.OUT,
                 kind=Kind.TEXT, state=MessageState.SENT, whatsapp_id=f"ID{n}") for n in range(15_000)),
        batch_size=2000,
    )  # fmt: skip
    Event.objects.bulk_create(
        (Event(kind=EventKind.SENT, account=accounts[n % _ACCOUNTS], position=n + 1) for n in range(10_000)),
        batch_size=2000,
    )
    HealthSample.objects.bulk_create(
        (HealthSample(metric="memory_usage", resolution=Resolution.READING, at=now - timedelta(seconds=30 * n), value=1,
                      minimum=1, maximum=1) for n in range(10_000)), batch_size=2000,
    )  # fmt: skip
    with connection.cursor() as cursor:
        for model in (Account, Session, SessionEvent, SessionCommand, Chat, Message, Event, HealthSample, Host):
            cursor.execute(f"ANALYZE TABLE {model._meta.db_table}")
            cursor.fetchall()
    return accounts[0]


#: What runs every few seconds or at every request: name -> the query, for an account.
HOT: dict[str, Callable[[Account], QuerySet[Any]]] = {
    "sessions to claim": lambda a: Session.objects.claimable(timezone.now()),
    "leases that ran out": lambda a: Session.objects.lease_ran_out(timezone.now()),
    "sessions of a host": lambda a: Session.objects.filter(host=Host.objects.get(name="host-7")),
    "commands of a session": lambda a: SessionCommand.objects.filter(finished_at=None, session__account=a),
    "open commands of a host": lambda a: SessionCommand.objects.filter(
        finished_at=None, session__host=Host.objects.get(name="host-7")),
    "events of a session": lambda a: SessionEvent.objects.filter(session__account=a).order_by("-id")[:50],
    "events to forget": lambda a: SessionEvent.objects.filter(at__lt=timezone.now() - timedelta(days=90)),
    "messages due": lambda a: Message.objects.due(timezone.now()).filter(account=a),
    "messages due anywhere": lambda a: Message.objects.due(timezone.now()),
    "messages left behind": lambda a: Message.objects.left_behind(a.pk, 5),
    "messages expired": lambda a: Message.objects.expired(timezone.now()),
    "a message by its id": lambda a: Message.objects.filter(account=a, whatsapp_id="ID7"),
    "a page of messages": lambda a: Message.objects.filter(account=a).order_by("-id")[:50],
    "the event stream": lambda a: Event.objects.after(9_990),
    "events without a position": lambda a: Event.objects.filter(position=None),
    "a metric's last hour": lambda a: HealthSample.objects.series(
        "memory_usage", "", timezone.now() - timedelta(hours=1), Resolution.READING),
    "readings since": lambda a: HealthSample.objects.readings(timezone.now() - timedelta(minutes=5)),
    "deliveries pending": lambda a: Delivery.objects.filter(state=DeliveryState.PENDING, next_at__lte=timezone.now()),
    "an account by its number": lambda a: Account.objects.filter(phone="6281200000007"),
}  # fmt: skip
#: So many rows may be looked at, by the server's own estimate, of the thousands there are.
_FEW = 800


def explained(statement: str, values: Any) -> list[tuple[str, str, str, str]]:
    """Return table, way, index and rows of each step that looks at many, or at a whole table."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}", values)
        names = [column[0] for column in cursor.description]
        plan = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    many = [step for step in plan if step["type"] == "ALL" or int(str(step["rows"] or 0).split()[0]) > _FEW]
    return [(step["table"], step["type"], step["key"], step["rows"]) for step in many]


def test_every_hot_query_finds_its_rows_by_an_index(filled: Account) -> None:
    found = {name: explained(*query(filled).query.sql_with_params()) for name, query in HOT.items()}
    assert {name: steps for name, steps in found.items() if steps} == {}


def test_what_is_looked_up_of_arrivals_is_found_by_an_index(filled: Account) -> None:
    people = [Person(f"62813{n:08}", f"{n}@lid") for n in range(8)]
    arrived = [(filled.pk + n, inbound.Message(f"3A{n}", f"{n}@s.whatsapp.net", one, one, False, timezone.now(), "Siti",
                                               Text("hello"))) for n, one in enumerate(people)]  # fmt: skip
    with CaptureQueriesContext(connection) as asked:
        Known.of(arrived)
    assert len(asked) == 3
    found = [step for each in asked for step in explained(each["sql"], None)]
    assert [step for step in found if step[0] != "<union1,2,3>"] == []  # what the three have found


def test_who_sends_and_to_whom_is_found_by_an_index(filled: Account) -> None:
    request = RequestFactory().post("/api/v1/messages")
    request.auth = ApiKey.make("shop", ["send"])[0]  # type: ignore[attr-defined]
    with CaptureQueriesContext(connection) as asked:
        _account, chat = sender_of(request, filled.pk, "0@s.whatsapp.net")
    assert chat is not None
    assert len(asked) == 1
    assert explained(asked[0]["sql"], None) == []


def test_what_loops_ask_all_day_is_answered_by_an_index(filled: Account) -> None:
    # "tell" compares all sessions by its nature, once a second; "feed" has a table of few rows.
    questions = {step.name: f"SELECT EXISTS({step.question})" for step in Dispatcher()._steps
                 if step.name not in ("tell", "feed")}  # fmt: skip
    questions |= {"courier": courier._QUESTION, "host": session_host._QUESTION}
    StreamReader.objects.create(name=answering.READER, position=9_990)
    given = {"now": "2026-01-01 00:00:00", "host": Host.objects.get(name="host-7").pk}
    found = {name: explained(question, given) for name, question in questions.items()}
    wrong = {name: [s for s in steps if s[0] != "messaging_webhookendpoint"]
             for name, steps in found.items()}  # fmt: skip
    assert {name: steps for name, steps in wrong.items() if steps} == {}


def test_an_index_that_is_missing_would_be_noticed(filled: Account) -> None:
    statement, values = Account.objects.filter(important=True).query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}", values)
        row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
    assert (row["type"], row["key"]) == ("ALL", None)


def test_live_back_over_many_accounts_is_quick(filled: Account) -> None:
    began = time.monotonic()
    live_back(timezone.now())
    assert time.monotonic() - began < 2


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_killed_is_replaced_at_the_next_request() -> None:
    Account.objects.create(label="before")
    kill([int(one("SELECT CONNECTION_ID()"))])
    close_old_connections()  # what begins every request and every turn
    Account.objects.create(label="after")
    assert Account.objects.count() == 2


def kill(ids: list[int]) -> None:
    """End connections from a second one, as a restart of the server does."""
    import MySQLdb

    chosen = connection.settings_dict
    with MySQLdb.connect(host=chosen["HOST"], port=int(chosen["PORT"] or 3306), user=chosen["USER"],
                         password=chosen["PASSWORD"]) as second:  # fmt: skip
        for one_id in ids:
            with contextlib.suppress(MySQLdb.OperationalError):  # it has ended by itself
                second.cursor().execute(f"KILL {one_id}")


def answer(url: str) -> bytes:
    """Return what the web process says, ready or not."""
    try:
        with urllib.request.urlopen(url, timeout=20) as found:
            return bytes(found.read())
    except urllib.error.HTTPError as error:
        return error.read()


def others() -> list[int]:
    """Return the connections to this test's database that are not our own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.real
def test_connections_killed_again_and_again_lose_no_write(installation: Installation, sim: Wasim) -> None:
    """A connected session is dropped ten times while every connection of host, cluster and web is killed."""
    number = str(next(_numbers))
    session = installation.paired("Front office", number)
    host = installation.start_host(RECONNECT_GRACE="20")
    cluster = installation.start("cluster", "manage.py", "qcluster")
    address = installation.start_web()
    installation.until(session, "connected", 40)
    for _ in range(10):
        logins = sim.device(number).accepted_logins
        kill(others())
        sim.faults.drop(number)
        kill(others())
        wait_for(lambda before=logins: sim.device(number).accepted_logins > before, 60,  # type: ignore[misc]
                 installation.log("host-1"))  # fmt: skip
        # Each log-in the other side saw is written down once.
        wait_for(lambda: SessionEvent.objects.filter(session=session, kind="connected").count()
                 == sim.device(number).accepted_logins, 30,
                 lambda: list(SessionEvent.objects.values_list("kind", flat=True)))  # fmt: skip
    installation.until(session, "connected")
    assert (host.running(), cluster.running()) == (True, True)
    kill(others())
    for _ in range(20):  # whichever of the web's threads answers finds its connection dead, and another at once
        assert json.loads(answer(f"{address}/readyz"))["checks"]["database"]["ok"]
    assert sim.most_live(number) == 1
