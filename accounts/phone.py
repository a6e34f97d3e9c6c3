"""Phone numbers: read in any common form, kept as digits with country code (the form of WhatsApp's JIDs)."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _


def normalise(text: str) -> str:
    """Return `text` as digits with country code, e.g. "0812-0000-0001" as "6281200000001" (region from PHONE_REGION).

    Raises ValidationError with one sentence when it cannot be a phone number.
    """
    text = text.strip()
    digits = "".join(filter(str.isdigit, text))
    # Digits with a country code but no "+" are common here: try the local reading first, it fails for those.
    for candidate, region in ((text, settings.PHONE_REGION), (f"+{digits}", None)):
        try:
            number = phonenumbers.parse(candidate, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_possible_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).lstrip("+")
    raise ValidationError(
        _("“%(text)s” is not a phone number. Write it with its country code, for example +62 812 0000 0001."),
        code="invalid_phone",
        params={"text": text},
    )


@lru_cache(4096)
def display(digits: str) -> str:
    """Return a stored number as people write it, "6281200000001" as "+62 812-0000-0001"; as it is if unreadable."""
    if not digits:
        return ""
    try:
        number = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        return f"+{digits}"
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
