"""The catalogue of errors: for each stable code the HTTP status, a short title and a sentence that says what to do.

One table for refusals of the API and for what becomes of a message, so that a program can act on the code alone. The
sentence may be replaced by a more precise one where the error arises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as lazy


@dataclass(frozen=True)
class Trouble:
    """One kind of error. `status` is 0 for what only a message can meet, after it was accepted."""

    status: int
    title: Any
    sentence: Any


CATALOGUE: dict[str, Trouble] = {
    # who asks
    "key_missing": Trouble(401, lazy("No API key"), lazy("Send your key in the header “Authorization: Bearer …”.")),
    "key_invalid": Trouble(
        401, lazy("Unknown API key"),
        lazy("This key is wrong, expired or revoked. Make a new one in the admin or with `manage.py create_api_key`.")),
    "key_in_url": Trouble(
        400, lazy("Key in the address"),
        lazy("A key in an address ends up in logs: revoke it, and send the new one in the Authorization header.")),
    "scope_missing": Trouble(403, lazy("Not allowed"), lazy("This key lacks the scope “%(scope)s”.")),
    "too_many_failures": Trouble(
        429, lazy("Too many wrong keys"), lazy("Too many wrong keys came from your address. Wait a while.")),
    "rate_limited": Trouble(
        429, lazy("Too many requests"), lazy("Slow down: try again after the seconds in the Retry-After header.")),
    # what is asked
    "not_found": Trouble(404, lazy("Not found"), lazy("There is nothing here for this key.")),
    "method_not_allowed": Trouble(405, lazy("Method not allowed"), lazy("This address does not take this method.")),
    "invalid_json": Trouble(
        400, lazy("Broken JSON"), lazy("The body is not valid JSON in UTF-8; check quotes, commas and encoding.")),
    "invalid_request": Trouble(422, lazy("Invalid request"), lazy("See “errors” for the fields to correct.")),
    "unsupported_media_type": Trouble(
        415, lazy("Unsupported content type"),
        lazy("Send the body as application/json, or files as multipart/form-data.")),
    "body_too_large": Trouble(413, lazy("Body too large"), lazy("The body is larger than this server accepts.")),
    "invalid_cursor": Trouble(400, lazy("Invalid cursor"), lazy("Use the `next` of an earlier answer, unchanged.")),
    "invalid_phone": Trouble(
        422, lazy("Not a phone number"), lazy("Write the number with its country code, as in +62 812 0000 0001.")),
    "invalid_address": Trouble(
        422, lazy("Not an address"), lazy("`to` is a phone number, a group (…@g.us) or a LID (…@lid).")),
    "invalid_text": Trouble(
        422, lazy("Invalid text"), lazy("The text holds characters that are not valid Unicode. Send it as UTF-8.")),
    "account_exists": Trouble(409, lazy("Account exists"), lazy("Another account has this label or number.")),
    "idempotency_conflict": Trouble(
        409, lazy("Idempotency-Key used for something else"),
        lazy("This Idempotency-Key came with another body within 24 hours. Use a new key for a new message.")),
    "idempotency_key_invalid": Trouble(
        400, lazy("Invalid Idempotency-Key"), lazy("An Idempotency-Key has 1 to 255 visible ASCII characters.")),
    "wrong_state": Trouble(409, lazy("Not possible now"), lazy("It is in a state that does not allow this.")),
    "send_at_past": Trouble(422, lazy("In the past"), lazy("`send_at` is in the past: leave it out to send at once.")),
    "send_at_far": Trouble(422, lazy("Too far ahead"), lazy("`send_at` may be at most 366 days ahead.")),
    "expires_at_past": Trouble(
        422, lazy("Expired"), lazy("`expires_at` must be in the future, and after `send_at` where that is given.")),
    "target_missing": Trouble(
        422, lazy("No such message"), lazy("The message to reply to, react to, edit or revoke is not in this chat.")),
    "target_not_ours": Trouble(
        422, lazy("Not your message"), lazy("Only a message this account sent can be edited or revoked.")),
    # the account
    "account_not_paired": Trouble(
        409, lazy("Account not paired"), lazy("No phone is linked to this account: pair it first.")),
    "account_stopped": Trouble(
        409, lazy("Account stopped"), lazy("This account was stopped by your team: start it first.")),
    "account_banned": Trouble(
        409, lazy("Account banned"), lazy("WhatsApp has banned this number for a time; see its session.")),
    "account_offline": Trouble(
        503, lazy("Account not connected"), lazy("This account is not connected right now; try again soon.")),
    "host_silent": Trouble(
        504, lazy("No answer in time"), lazy("The session host did not answer in time; try again.")),
    "whatsapp_refused": Trouble(502, lazy("WhatsApp refused"), lazy("WhatsApp did not answer this question.")),
    # the receiver
    "not_on_whatsapp": Trouble(
        422, lazy("Not on WhatsApp"), lazy("This number has no WhatsApp account: check it with the person.")),
    # media
    "media_missing": Trouble(
        422, lazy("No file"), lazy("Give `media` as exactly one of `id`, `base64` or `url`.")),
    "media_unknown": Trouble(422, lazy("No such file"), lazy("This key uploaded no file with this id.")),
    "media_base64": Trouble(422, lazy("Not base64"), lazy("`media.base64` is not valid base64.")),
    "media_empty": Trouble(422, lazy("Empty file"), lazy("The file is empty.")),
    "media_too_large": Trouble(413, lazy("File too large"), lazy("The file is larger than %(limit)s MB.")),
    "media_type": Trouble(
        422, lazy("Wrong kind of file"), lazy("The file is not what this kind of message carries.")),
    "media_expired": Trouble(
        410, lazy("Address expired"), lazy("This address has expired: read the message again for a new one.")),
    "media_gone": Trouble(410, lazy("File deleted"), lazy("The file was deleted after its time of retention.")),
    "media_fetch_failed": Trouble(
        0, lazy("File not fetched"), lazy("The address of the file could not be fetched.")),
    # addresses we are to call
    "url_not_https": Trouble(422, lazy("Not https"), lazy("The address must begin with https://.")),
    "url_invalid": Trouble(422, lazy("Invalid address"), lazy("This is not an address that can be called.")),
    "url_private": Trouble(
        422, lazy("Private address"), lazy("The address leads into a private or local network, which is refused.")),
    "url_unresolved": Trouble(422, lazy("Unknown host name"), lazy("The host name of the address cannot be found.")),
    # bulk sends
    "csv_invalid": Trouble(
        422, lazy("Invalid CSV"), lazy("Send UTF-8 CSV with a heading line that has a column “phone”.")),
    "template_invalid": Trouble(422, lazy("Invalid template"), lazy("The template cannot be filled in.")),
    "too_many_recipients": Trouble(422, lazy("Too many recipients"), lazy("At most 10,000 recipients in one go.")),
    "webhook_disabled": Trouble(409, lazy("Webhook disabled"), lazy("Enable this webhook first.")),
    # our own faults
    "internal_error": Trouble(500, lazy("Internal error"), lazy("This is a fault of the server; it has been logged.")),
    "too_busy": Trouble(503, lazy("Busy"), lazy("Too many callers wait for session hosts already; try again.")),
    "database_busy": Trouble(
        503, lazy("Busy"), lazy("The database is busy; nothing was stored. Try again with the same Idempotency-Key.")),
    # only a message meets these
    "expired": Trouble(0, lazy("Expired"), lazy("It could not be sent before its `expires_at`.")),
    "cancelled": Trouble(0, lazy("Cancelled"), lazy("It was cancelled before it was sent.")),
    "offline": Trouble(0, lazy("Not connected"), lazy("The account was not connected; it is tried again.")),
    "unpaired": Trouble(0, lazy("Not paired"), lazy("No phone is linked to the account any more: pair it again.")),
    "bad_address": Trouble(0, lazy("Not an address"), lazy("WhatsApp cannot deliver to this address.")),
    "no_answer": Trouble(0, lazy("No answer"), lazy("WhatsApp did not answer before the message was handed over.")),
    "group_unavailable": Trouble(0, lazy("Group not available"), lazy("WhatsApp did not say who is in the group.")),
    "forbidden": Trouble(0, lazy("Not allowed"), lazy("The account may not write to this chat.")),
    "refused": Trouble(0, lazy("Refused"), lazy("WhatsApp refused the message.")),
    "upload_failed": Trouble(0, lazy("File not sent"), lazy("The file could not be uploaded to WhatsApp.")),
    "attempts_exhausted": Trouble(0, lazy("Given up"), lazy("It could certainly not be sent in several attempts.")),
    "outcome_unknown": Trouble(
        0, lazy("Outcome unknown"), lazy("WhatsApp did not confirm it in time. It may have arrived.")),
    "host_died": Trouble(
        0, lazy("Outcome unknown"), lazy("The session host ended while sending it. It may have arrived.")),
    "restricted": Trouble(
        0, lazy("Restricted"), lazy("WhatsApp restricts this account from writing to new people (463).")),
    "rejected": Trouble(0, lazy("Rejected"), lazy("WhatsApp rejected the message.")),
    "unsupported": Trouble(0, lazy("Not supported"), lazy("The client library cannot send this kind of message.")),
    "target_not_sent": Trouble(0, lazy("Not sent"), lazy("The message it is about was never sent.")),
    "contacts_paused": Trouble(
        0, lazy("Waiting"), lazy("WhatsApp restricted this account: new contacts wait, replies go on.")),
    "paced": Trouble(0, lazy("Waiting"), lazy("It waits its turn by the pacing of this account.")),
    "daily_cap": Trouble(0, lazy("Waiting"), lazy("This account wrote to as many new people as it may today.")),
    "quiet_hours": Trouble(0, lazy("Waiting"), lazy("It waits for the end of this account's quiet hours.")),
}  # fmt: skip


@dataclass
class Refused(Exception):  # noqa: N818 - a refusal, not a fault
    """A request or a message is refused, for a reason of the catalogue."""

    code: str
    detail: str = ""
    #: What the catalogue's sentence has placeholders for.
    values: Mapping[str, Any] = field(default_factory=dict)
    #: {"field": ..., "detail": ...} per wrong field.
    fields: list[dict[str, str]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.code)

    @property
    def trouble(self) -> Trouble:
        """Return its entry."""
        return CATALOGUE[self.code]

    @property
    def sentence(self) -> str:
        """Return what to tell a person."""
        return self.detail or str(self.trouble.sentence) % dict(self.values)


def sentence(code: str, **values: Any) -> str:
    """Return the catalogue's sentence for a code."""
    return str(CATALOGUE[code].sentence) % values
