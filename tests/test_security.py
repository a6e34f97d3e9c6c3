"""The security pass: content policy, log-in, roles, audit, limits, modes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.urls import reverse
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import roles
from accounts.models import Account
from sessions_app.consumers import may
from tests.installation import ROOT
from waserver import audit, private
from waserver.addresses import client_ip
from waserver.limits import BodyLimit

LOG_IN = "/admin/login/?next=/admin/"


# -- the content policy and the production settings


@pytest.mark.django_db
def test_no_page_allows_inline_code_or_other_origins(client: Client) -> None:
    policy = client.get(LOG_IN, secure=True)["Content-Security-Policy"]
    assert "unsafe-inline" not in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*", policy)


#: A file people save and open from disk carries its own looks; it is never shown as a page of ours.
_TO_SAVE = {"report_file.html"}


@pytest.mark.parametrize(
    "template", sorted(p for p in (ROOT / "templates").rglob("*.html") if p.name not in _TO_SAVE), ids=lambda p: p.name
)
def test_our_templates_hold_no_inline_code(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=|\sstyle=", text)


def test_check_deploy_is_clean_behind_a_tls_proxy(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], cwd=ROOT, capture_output=True,
        text=True, check=False,
        env={**os.environ, "VAR_DIR": str(tmp_path), "HTTPS": "on", "ALLOWED_HOSTS": "wa.example", "SECRET_KEY": ""},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "no issues" in answer.stdout + answer.stderr


def test_the_proxys_word_on_the_client_counts_only_behind_the_proxy(settings: Any) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR="6.6.6.6, 203.0.113.9")
    assert client_ip(request) == "127.0.0.1"
    settings.HTTPS = True
    assert client_ip(request) == "203.0.113.9"


# -- limits


async def ask(limit: int, chunks: list[bytes], announced: str | None) -> int:
    sent: list[Any] = []
    queue = [{"type": "http.request", "body": body, "more_body": True} for body in chunks]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in chunks:
            await receive()
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> Any:
        return queue.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if announced is None else [(b"content-length", announced.encode())]
    await BodyLimit(app, limit)({"type": "http", "headers": headers}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("chunks", "announced", "status"),
    [([b"12345"], "5", 200), ([b"123", b"45"], None, 200), ([], "6", 413), ([b"123", b"456"], None, 413),
     ([], "-1", 413), ([], "many", 413)],
)  # fmt: skip
async def test_a_body_past_the_limit_is_refused_announced_or_not(
    chunks: list[bytes], announced: str | None, status: int
) -> None:
    assert await ask(5, chunks, announced) == status


# -- who may read VAR_DIR


def test_a_folder_others_may_read_is_found_and_made_private(tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR, settings.DEVICES_DIR = tmp_path / "var", tmp_path / "var" / "devices"
    settings.LOG_DIR = settings.RUN_DIR = settings.DEVICES_DIR
    settings.DEVICES_DIR.mkdir(parents=True)
    (settings.VAR_DIR / "secret_key").write_text("x")
    for path, mode in ((settings.VAR_DIR, 0o755), (settings.DEVICES_DIR, 0o750)):
        path.chmod(mode)
    assert settings.VAR_DIR in private.exposed()
    assert {message.id for message in private.check(None)} == {"waserver.W001"}
    assert private.make_private() == []
    assert private.exposed() == []
    assert settings.VAR_DIR.stat().st_mode & 0o777 == 0o700


def test_a_shared_folder_is_never_closed_to_others(tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR = tmp_path / "shared"
    settings.VAR_DIR.mkdir()
    settings.VAR_DIR.chmod(0o1777)
    assert private.make_private() == [settings.VAR_DIR]
    assert settings.VAR_DIR.stat().st_mode & 0o777 == 0o777


# -- roles


@pytest.mark.django_db
def test_every_migrate_makes_the_three_roles_and_each_holds_the_one_below() -> None:
    Group.objects.all().delete()
    call_command("migrate", verbosity=0)
    held = [set(Group.objects.get(name=role).permissions.all())
            for role in (roles.VIEWER, roles.OPERATOR, roles.ADMINISTRATOR)]  # fmt: skip
    viewer, operator, administrator = held
    assert viewer < operator < administrator
    assert all(permission.codename.startswith("view_") for permission in viewer)


@pytest.mark.django_db
def test_an_administrator_holds_every_permission_of_ours() -> None:
    rest = Permission.objects.filter(content_type__app_label__in=roles.OURS).exclude(
        pk__in=roles.permissions(roles.ADMINISTRATOR)
    )
    assert not rest


@pytest.mark.django_db
@pytest.mark.parametrize("app", roles.DAILY)
def test_what_an_operator_may_do_exists(app: str) -> None:
    there = set(Permission.objects.filter(content_type__app_label=app).values_list("codename", flat=True))
    assert roles.DAILY[app] <= there


@pytest.mark.django_db
def test_models_with_secrets_are_withheld_from_viewers() -> None:
    shown = set(roles.permissions(roles.VIEWER).values_list("content_type__app_label", "content_type__model"))
    for model in apps.get_models():
        if model._meta.app_label in roles.OURS and audit.secrets(model) and model is not Account:
            assert (model._meta.app_label, model._meta.model_name) not in shown, model


# -- what staff change is written down


@pytest.mark.django_db
def test_a_change_by_staff_is_written_down_with_its_author_and_without_secrets(admin_client: Client) -> None:
    admin_client.post(reverse("admin:accounts_account_add"), {
        "label": "First", "desired": "online", "proxy_url": "http://user:hidden@proxy.example:8080",
    })  # fmt: skip
    account = Account.objects.get()
    admin_client.post(reverse("admin:accounts_account_change", args=[account.pk]), {
        "label": "Second", "desired": "online", "proxy_url": "socks5://user:hidden@proxy.example:1080",
    })  # fmt: skip
    entries = LogEntry.objects.get_for_object(account)
    assert [(entry.actor.username, entry.get_action_display()) for entry in entries] == [
        ("admin", "update"), ("admin", "create"),
    ]  # fmt: skip
    assert entries[0].changes == {"label": ["First", "Second"]}
    assert "hidden" not in str([entry.changes for entry in entries])


#: Changed by staff, yet not tracked: django-q2's own rows, and what has a history of its own.
_NOT_TRACKED = {
    "django_q.schedule", "django_q.ormq", "django_q.success", "django_q.failure",
    "messaging.bulk", "messaging.message", "monitoring.incident", "sessions_app.host",
}  # fmt: skip


@pytest.mark.django_db
def test_every_model_staff_can_change_is_tracked(rf: RequestFactory) -> None:
    request = rf.get("/")
    request.user = User.objects.create_superuser("ana")
    changeable = {
        model._meta.label_lower for model, page in admin.site._registry.items()
        if page.has_add_permission(request) or page.has_change_permission(request)
    }  # fmt: skip
    assert changeable - _NOT_TRACKED <= set(audit.TRACKED), "put it into waserver/audit.py"


def test_no_secret_is_tracked() -> None:
    for label in audit.TRACKED:
        model = apps.get_model(label)
        tracked = set(auditlog.get_model_fields(model)["exclude_fields"])
        assert set(audit.secrets(model)) <= tracked


# -- logging in


@pytest.fixture
def ana() -> User:
    return User.objects.create_superuser("ana", password="only for tests")


def log_in(client: Client, **fields: str) -> Any:
    return client.post(LOG_IN, {"username": "ana", "password": "only for tests", **fields})


def code(device: TOTPDevice, ahead: int = 0) -> str:
    totp = TOTP(device.bin_key)
    totp.time = __import__("time").time() + 30 * ahead
    return f"{totp.token():06d}"


def set_up(client: Client, user: User) -> list[str]:
    """Set two-factor log-in up as the user does; return the backup codes."""
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("admin:two_factor"))
    assert "<svg" in page.content.decode()
    page = client.post(reverse("admin:two_factor"), {"code": code(TOTPDevice.objects.get())})
    assert "Two-factor log-in is on." in page.content.decode()
    return list(page.context["codes"])


@pytest.mark.django_db
def test_after_ten_wrong_passwords_the_name_waits_and_others_do_not(client: Client, ana: User) -> None:
    User.objects.create_superuser("budi", password="only for tests")
    for _ in range(10):
        answer = log_in(client, password="wrong")
    assert answer.status_code == 429
    assert "Wait 15 minutes" in answer.content.decode()
    assert log_in(client).status_code == 429
    assert log_in(client, username="budi").status_code == 302


@pytest.mark.django_db
def test_without_two_factor_nobody_is_asked_for_a_code(client: Client, ana: User) -> None:
    assert 'name="code"' not in client.get(LOG_IN).content.decode()
    assert log_in(client)["Location"] == "/admin/"


@pytest.mark.django_db
def test_once_set_up_the_password_alone_opens_nothing(client: Client, ana: User) -> None:
    backup = set_up(client, ana)
    client.logout()
    assert 'name="code"' in client.get(LOG_IN).content.decode()
    for wrong, words in (("", "Type the code"), ("000000", "This code is not right")):
        answer = log_in(client, code=wrong)
        assert words in answer.content.decode()
        assert "_auth_user_id" not in client.session
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    assert log_in(client, code=code(TOTPDevice.objects.get(), 1)).status_code == 302
    client.logout()
    assert log_in(client, code=backup[0]).status_code == 302
    client.logout()
    assert "This code is not right" in log_in(client, code=backup[0]).content.decode()
    assert StaticToken.objects.count() == len(backup) - 1


@pytest.mark.django_db
def test_wrong_codes_are_slowed_down(client: Client, ana: User) -> None:
    set_up(client, ana)
    client.logout()
    log_in(client, code="000000")
    assert TOTPDevice.objects.get().throttling_failure_count == 1
    TOTPDevice.objects.update(throttling_failure_count=7)  # a second doubles with each: now it is a minute
    assert "Too many wrong codes" in log_in(client, code="000000").content.decode()


@pytest.mark.django_db
def test_turning_it_off_asks_for_a_code(client: Client, ana: User) -> None:
    set_up(client, ana)
    client.post(reverse("admin:two_factor"), {"off": "1", "code": "000000"})
    assert TOTPDevice.objects.filter(confirmed=True).exists()
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    client.post(reverse("admin:two_factor"), {"off": "1", "code": code(TOTPDevice.objects.get(), 1)})
    assert not TOTPDevice.objects.exists()


@pytest.mark.django_db
def test_where_it_is_demanded_nothing_else_opens_before_it_is_set_up(client: Client, ana: User, settings: Any) -> None:
    settings.TWO_FACTOR = "required"
    client.force_login(ana, backend="django.contrib.auth.backends.ModelBackend")
    accounts = reverse("admin:accounts_account_changelist")
    assert client.get(accounts)["Location"] == reverse("admin:two_factor")
    set_up(client, ana)
    assert client.get(accounts).status_code == 200
    client.logout()
    log_in(client, code=code(TOTPDevice.objects.get(), 1))
    assert client.get(accounts).status_code == 200


@pytest.mark.django_db
def test_where_it_is_demanded_a_socket_needs_it_too(client: Client, ana: User, settings: Any) -> None:
    settings.TWO_FACTOR = "required"
    client.force_login(ana, backend="django.contrib.auth.backends.ModelBackend")
    assert may([{"user": ana, "session": client.session}]) == [False]
    set_up(client, ana)
    assert may([{"user": ana, "session": client.session}]) == [True]


@pytest.mark.django_db
def test_a_key_is_shown_to_nobody_but_its_owner(admin_client: Client, ana: User) -> None:
    device = TOTPDevice.objects.create(user=ana, confirmed=True)
    page = admin_client.get(reverse("admin:otp_totp_totpdevice_change", args=[device.pk])).content.decode()
    assert device.key not in page
