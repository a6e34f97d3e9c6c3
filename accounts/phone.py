"""Phone numbers: read in any common form, kept as digits with country code (the form of WhatsApp's JIDs)."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _


def normalise(text: str) -> str:
    """Return `text` as digits with country code, e.g. "0812-0000-0001" as "6281200000001" (region from PHONE_REGION).

    Without a "+", "00" or "0" before it, it may be a number with its country code, as programs write them, or one of
    this country whose 0 a spreadsheet has dropped: a mobile number of this country comes first, then a number that
    exists with the country code. Raises ValidationError with one sentence when it cannot be a phone number.
    """
    text = text.strip()
    digits = "".join(filter(str.isdigit, text))
    abroad = _parsed(f"+{digits.removeprefix('00')}", None)
    here = None if text.startswith(("+", "00")) else _parsed(text, settings.PHONE_REGION)
    found = abroad or here
    if here is not None and (
        digits.startswith("0") or _is_mobile(here)
        or (phonenumbers.is_valid_number(here) and (abroad is None or not phonenumbers.is_valid_number(abroad)))
    ):  # fmt: skip
        found = here
    if found is not None:
        return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164).lstrip("+")
    raise ValidationError(
        _("“%(text)s” is not a phone number. Write it with its country code, for example +62 812 0000 0001."),
        code="invalid_phone",
        params={"text": text},
    )


def _parsed(text: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    """Return what it may be as a number of that country, None when that is impossible."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None


def _is_mobile(number: phonenumbers.PhoneNumber) -> bool:
    mobile = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
    return phonenumbers.number_type(number) in mobile


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
