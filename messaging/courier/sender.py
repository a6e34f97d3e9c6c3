"""One send, from row to outcome. Runs on a thread of the courier's pool; never touches the database's rows."""

from __future__ import annotations

import logging
import random
import time

from django.db import connection

from messaging.courier.lane import Result
from messaging.courier.letters import content_of
from messaging.courier.preview import preview_of
from messaging.models import Message
from messaging.pacing import Pace, typing_time
from sessions_app.whatsapp.client import Client, NotSent, Typing, Unknown, WhatsAppError

_log = logging.getLogger(__name__)
_random = random.Random()  # noqa: S311 - a person's typing


def send(client: Client, row: Message, pace: Pace) -> Result:
    """Return what came of it. Whatever goes wrong before the library has it is a certain failure; after it, none is."""
    try:
        preview = preview_of(row.text) if row.content.get("preview") is True else None
        content = content_of(row, preview)
        if pace.typing and pace.enabled:
            _type(client, row)
    except NotSent as error:
        return error
    except Exception:  # noqa: BLE001 - one message must not hold up the others
        _log.exception("Message %d cannot be put together", row.pk)
        return NotSent("unsupported", "The message could not be put into WhatsApp's form.")
    finally:
        connection.close()  # should anything have read a row
    try:
        return client.send(row.chat.jid, content)
    except (NotSent, Unknown) as outcome:
        return outcome
    except Exception as error:  # noqa: BLE001 - the library may have it
        _log.exception("Sending message %d failed in an unknown way", row.pk)
        return Unknown(f"The client library failed while sending ({type(error).__name__}).")


def _type(client: Client, row: Message) -> None:
    """Show typing for about as long as a person would take. It is only for show: a failure changes nothing."""
    try:
        client.typing(row.chat.jid, Typing.COMPOSING)
        time.sleep(typing_time(row.text, _random.random()).total_seconds())
        client.typing(row.chat.jid, Typing.PAUSED)
    except WhatsAppError:
        _log.info("Typing was not shown for message %d", row.pk)
