"""What else is asked of connected sessions: questions to WhatsApp, and files that arrived.

Both run on small pools of their own, so that a slow answer holds up no message.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.poll import ask
from messaging.courier.inbox import WHATSAPP
from messaging.courier.lane import Lane
from messaging.models import Ask, HostRequest, Media, MediaState, Message
from sessions_app.whatsapp.client import Client, Group, Typing, WhatsAppError
from sessions_app.whatsapp.inbound import Person

_log = logging.getLogger(__name__)

_QUESTIONS, _FILES = 4, 2
#: Seconds between looks for files whose download failed or was cut off, and how often one is tried.
_FILES_AGAIN, _TRIES, _AT_ONCE = 30.0, 5, 50
_WANTED = "SELECT EXISTS(SELECT 1 FROM messaging_media WHERE state = 'wanted')"


class Clerk:
    """`turn` and `files_wanted` are called by the courier's thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._questions = ThreadPoolExecutor(_QUESTIONS, "question")
        self._files = ThreadPoolExecutor(_FILES, "file")
        self._under_way: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._look_at = 0.0

    def files_wanted(self) -> None:
        """A file arrived: look at the next turn."""
        self._look_at = 0.0

    def turn(self, lanes: Mapping[int, Lane], *, asked: bool) -> None:
        """Begin what is to be done. `asked`: there may be requests."""
        clients = {lane.line.account_id: lane.line.client for lane in lanes.values() if not lane.closed}
        if not clients:
            return
        if asked:
            for request in HostRequest.objects.open(timezone.now()).filter(account_id__in=clients):
                self._begin(self._questions, ("request", request.pk), answer, clients[request.account_id], request)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _FILES_AGAIN
            if ask(_WANTED)[0]:
                self._fetch(clients)

    def close(self) -> None:
        """Begin nothing more."""
        for pool in (self._questions, self._files):
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, clients: Mapping[int, Client]) -> None:
        wanted = Message.objects.filter(
            media__state=MediaState.WANTED, media__url__startswith=WHATSAPP, account_id__in=clients
        ).select_related("media")
        for row in wanted.order_by("pk")[:_AT_ONCE]:
            assert row.media is not None
            self._begin(self._files, ("file", row.media.pk), fetch, clients[row.account_id], row.media)

    def _begin(
        self, pool: ThreadPoolExecutor, name: tuple[str, int], work: Callable[..., None], *arguments: Any
    ) -> None:  # fmt: skip
        with self._lock:
            if name in self._under_way:
                return
            self._under_way.add(name)

        def run() -> None:
            try:
                work(*arguments)
            except Exception:  # noqa: BLE001 - a thread's edge
                _log.exception("%s %d failed", *name)
            finally:
                connection.close()
                with self._lock:
                    self._under_way.discard(name)

        pool.submit(run)


def answer(client: Client, request: HostRequest) -> None:
    """Answer one question of the API."""
    try:
        request.finish(_ANSWERS[Ask(request.ask)](client, request.arguments))
    except WhatsAppError as error:
        _log.info("WhatsApp did not answer %s: %s (%s)", request.ask, error, error.__cause__)
        request.finish(error_code="whatsapp_refused", error=str(error))
    except Exception:
        request.finish(error_code="internal_error", error="The session host failed to answer; see its log.")
        raise


def fetch(client: Client, file: Media) -> None:
    """Download a file that arrived and keep it; given up after a few tries."""
    if file.size > settings.MEDIA_MAX_BYTES:
        Media.objects.filter(pk=file.pk).update(state=MediaState.FAILED)
        return
    try:
        data = client.download(base64.b64decode(file.url.removeprefix(WHATSAPP)))
    except WhatsAppError as error:
        _log.info("File %d was not fetched: %s (%s)", file.pk, error, error.__cause__)
        given_up = file.attempts + 1 >= _TRIES
        Media.objects.filter(pk=file.pk, state=MediaState.WANTED).update(
            attempts=file.attempts + 1, state=MediaState.FAILED if given_up else MediaState.WANTED
        )
        return
    file.fetched(data, file.mime)


def _contacts(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    found = client.lookup(list(given["phones"]))
    return {"contacts": [{"phone": each.phone, **_person(each.person), "on_whatsapp": each.on_whatsapp,
                          "name": each.name} for each in found]}  # fmt: skip


def _picture(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    found = client.picture(str(given["jid"]))
    return {"url": found.url if found else "", "id": found.id if found else ""}


def _group(group: Group) -> dict[str, Any]:
    return {"jid": group.address, "name": group.name, "topic": group.topic, "owner": group.owner.address,
            "created_at": group.created_at.isoformat() if group.created_at else None,
            "size": len(group.members)}  # fmt: skip


def _one_group(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    group = client.group(str(given["jid"]))
    people = [{**_person(each.person), "phone": each.person.phone, "admin": each.admin} for each in group.members]
    return {**_group(group), "participants": people}


def _person(person: Person) -> dict[str, str]:
    return {"jid": person.address, "lid": person.lid.partition("@")[0]}


def _typing(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    client.typing(str(given["jid"]), Typing(given["state"]))
    return {}


def _presence(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    client.available(given["state"] == "available")
    return {}


_ANSWERS: dict[Ask, Callable[[Client, Mapping[str, Any]], dict[str, Any]]] = {
    Ask.CONTACTS: _contacts, Ask.PICTURE: _picture, Ask.GROUP: _one_group, Ask.TYPING: _typing,
    Ask.PRESENCE: _presence, Ask.GROUPS: lambda client, given: {"groups": [_group(each) for each in client.groups()]},
}  # fmt: skip
