"""What a restored database must not say any more, since time has passed. On the copy, before it takes its place."""

from __future__ import annotations

from datetime import datetime

from django.db import connection, models
from django.db.models import F
from django.utils.translation import gettext_lazy as lazy
from django_q.models import OrmQ

from messaging.models import Event, Message
from messaging.models.event import EventCursor
from messaging.states import MessageState
from sessions_app.models import Host, Session, SessionCommand

#: Ids given between the backup and now must not be given again: receivers of webhooks tell repetitions by them.
GAP = 1_000_000
#: An old host that was cut off must not hold an epoch that is given again.
EPOCHS = 1_000
_ASK_AGAIN = lazy("A backup was restored meanwhile. Ask again.")
_MAY_BE_SENT = lazy(
    "It was waiting when the backup was made, so it may have been sent since. Send it again if it was not."
)


def settle(now: datetime) -> dict[str, int]:
    """Give all leases back, close what was asked, hold what may have been sent since; return the counts."""
    sessions = Session.objects.update(
        host=None, lease_expires_at=None, lease_epoch=F("lease_epoch") + EPOCHS, due_at=now, qr_text="", pair_code="",
        code_expires_at=None, version=F("version") + 1,
    )  # fmt: skip
    Host.objects.filter(ended_at=None).update(ended_at=now, sessions=0, restart_requested_at=None)
    commands = SessionCommand.objects.filter(finished_at=None).update(finished_at=now, error=str(_ASK_AGAIN))
    tasks = OrmQ.objects.all().delete()[0]
    _skip_ids(Message)
    _skip_ids(Event)
    cursor, _made = EventCursor.objects.get_or_create(pk=1)
    EventCursor.objects.update(position=cursor.position + GAP)
    return {"sessions": sessions, "commands": commands, "tasks": tasks, "uncertain": _hold_messages(now)}


def _hold_messages(now: datetime) -> int:
    """A message that waited may have been sent after the backup; one whose time has not come yet was not."""
    Message.objects.filter(state=MessageState.QUEUED).exclude(send_at__gt=now).update(state=MessageState.SENDING)
    held = 0
    for message in Message.objects.filter(state=MessageState.SENDING).select_related("account").iterator():
        held += message.uncertain("restored", str(_MAY_BE_SENT))
    return held


def _skip_ids(model: type[models.Model]) -> None:
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT MAX(seq) FROM sqlite_sequence WHERE name = %s", [table])
            last = cursor.fetchone()[0] or 0
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, last + GAP])
            return
        name = connection.ops.quote_name(table)
        cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {name}")  # noqa: S608 - a table of ours
        cursor.execute(f"ALTER TABLE {name} AUTO_INCREMENT = {int(cursor.fetchone()[0]) + GAP}")
