"""The sidebar: every model's page has its place, and nobody sees a line that would be refused."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from waserver.navigation import GROUPS, Entry


def entries() -> list[Entry]:
    return [entry for _, group in GROUPS for entry in group]


def test_every_model_of_the_admin_has_exactly_one_line_in_the_sidebar() -> None:
    listed = [entry.where for entry in entries() if not entry.is_page]
    assert sorted(listed) == sorted(model._meta.label_lower for model in admin.site._registry), (
        "add the model to a group in waserver/navigation.py"
    )


@pytest.mark.django_db
def test_every_line_opens(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:index"))
    lines = [item for group in page.context["sidebar_navigation"] for item in group["items"]]
    assert len(lines) == len(entries())
    for line in lines:
        assert admin_client.get(line["link"]).status_code == 200, line


@pytest.mark.django_db
def test_a_line_that_would_be_refused_is_not_shown(client: Client) -> None:
    viewer = User.objects.create_user("budi", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_account"))
    client.force_login(viewer)
    page = client.get(reverse("admin:index"))
    lines = [item for group in page.context["sidebar_navigation"] for item in group["items"]]
    shown = {line["link"] for line in lines if line["has_permission"]}
    assert shown == {reverse("admin:index"), reverse("admin:accounts_account_changelist")}
    text = page.content.decode()
    assert f'href="{reverse("admin:accounts_account_changelist")}"' in text
    assert f'href="{reverse("admin:auth_user_changelist")}"' not in text
