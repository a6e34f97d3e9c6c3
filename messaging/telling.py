"""Telling of sessions: when a state differs from the one last told, an event is appended. Level-triggered."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from messaging.models import Event, EventKind, SessionTold
from sessions_app.explanations import explain
from sessions_app.models import Session


def tell_sessions() -> bool:
    """Append what changed; return whether anything did."""
    told = dict(SessionTold.objects.values_list("account_id", "state"))
    states = Session.objects.values_list("account_id", "state")
    changed = [account for account, state in states if told.get(account) != state]
    for account in changed:
        _tell(account)
    return bool(changed)


def _tell(account_id: int) -> None:
    with transaction.atomic():
        session = Session.objects.select_related("account", "host").filter(account_id=account_id).first()
        if session is None:
            return
        row, new = SessionTold.objects.get_or_create(account_id=account_id, defaults={"state": session.state})
        if not new:
            if row.state == session.state:
                return
            row.state = session.state
            row.save(update_fields=["state"])
        explanation = explain(session, timezone.now())
        Event.append(EventKind.SESSION, session.account_id, {
            "account_id": account_id, "label": session.account.label, "state": session.state,
            "sentence": explanation.sentence, "what_to_do": explanation.what_to_do, "code": session.code,
        })  # fmt: skip
