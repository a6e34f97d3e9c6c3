"""Whom a message is for, as people and programs write it."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError

from accounts import phone
from messaging.errors import Refused
from messaging.models.chat import GROUP, LID, USER

_JID = re.compile(r"^(\d{5,20}|\d{5,20}-\d{5,20})@(s\.whatsapp\.net|g\.us|lid)$", re.ASCII)


def jid_of(to: str) -> str:
    """Return the address on WhatsApp. Raises Refused with invalid_phone or invalid_address."""
    to = to.strip()
    if "@" not in to:
        return f"{digits_of(to)}@{USER}"
    found = _JID.match(to.lower())
    if found is None or ("-" in found[1] and found[2] != GROUP):
        raise Refused("invalid_address")
    return found[0]


def digits_of(number: str) -> str:
    """Return a phone number as digits. Raises Refused."""
    try:
        return phone.normalise(number)
    except ValidationError as error:
        raise Refused("invalid_phone", " ".join(error.messages)) from None


def is_group(jid: str) -> bool:
    """Return whether it is a group."""
    return jid.endswith(f"@{GROUP}")


__all__ = ["GROUP", "LID", "USER", "digits_of", "is_group", "jid_of"]
