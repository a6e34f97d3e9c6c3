"""Encrypted text: what is stored, what is read back, and a refusal that leaves nothing behind."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from accounts.models import Account

pytestmark = pytest.mark.django_db

PROXY = "http://user:passphrase@proxy-of-the-office:80"


def test_it_is_encrypted_in_the_database_and_plain_in_the_program() -> None:
    Account.objects.create(label="A", proxy=PROXY)
    with connection.cursor() as cursor:
        cursor.execute("SELECT proxy FROM accounts_account")
        stored = cursor.fetchone()[0]
    # Each longer than the letters that ciphertext happens to have side by side.
    for part in ("passphrase", "proxy-of-the-office"):
        assert part in PROXY
        assert part not in stored
    assert Account.objects.get().proxy == PROXY


def test_a_refused_value_does_not_stop_the_process_from_decrypting() -> None:
    Account.objects.create(label="A", proxy=PROXY)
    with pytest.raises(ValidationError):
        Account(label="B", proxy="nonsense").full_clean()
    assert Account.objects.get().proxy == PROXY
