"""The WebSocket of the admin: who may open it, what two tabs see, and what happens when a permission goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.test import Client

from accounts.models import Account
from sessions_app.consumers import feed
from sessions_app.feed import LOG_IN
from sessions_app.models import Session
from waserver.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "http://localhost"


class Tab:
    """One browser tab."""

    def __init__(self, client: Client, origin: str = ORIGIN) -> None:
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
        headers = [(b"origin", origin.encode()), (b"host", b"localhost"), (b"cookie", cookies.encode())]
        self.socket = WebsocketCommunicator(application, "/ws/sessions/", headers=headers)

    async def open(self) -> bool:
        connected, _ = await self.socket.connect(timeout=30)
        return connected

    async def watch(self, *ids: int, panel: int | None = None) -> None:
        await self.socket.send_json_to({"watch": list(ids), "panel": panel})

    async def shown(self) -> Any:
        return await self.socket.receive_json_from(timeout=30)

    async def closed_with(self) -> int:
        for _ in range(20):
            message = await self.socket.receive_output(timeout=30)
            if message["type"] == "websocket.close":
                return int(message["code"])
        raise AssertionError("it was not closed")


@pytest.fixture
async def tabs(settings: Any) -> AsyncIterator[list[Tab]]:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    opened: list[Tab] = []
    yield opened
    for tab in opened:
        await tab.socket.disconnect()
    if feed._task is not None:
        feed.hint()
        await feed._task


@database_sync_to_async
def member(*permissions: str) -> tuple[User, Client]:
    user = User.objects.create_user("ana", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return user, client


@database_sync_to_async
def account(label: str = "Front office", **fields: Any) -> Session:
    session: Session = Account.objects.create(label=label).session
    change(session, **fields)
    return session


def change(session: Session, **fields: Any) -> None:
    row = Session.objects.get(pk=session.pk)
    Session.objects.filter(pk=session.pk).update(version=row.version + 1, **fields)


async def test_without_a_log_in_it_is_closed_with_a_code_the_page_understands(tabs: list[Tab]) -> None:
    tab = Tab(Client())
    tabs.append(tab)
    assert await tab.open()
    assert await tab.closed_with() == LOG_IN


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null"])
async def test_a_page_of_another_site_is_refused(origin: str) -> None:
    _, client = await member("view_account")
    tab = Tab(client, origin)
    assert not await tab.open()


async def test_staff_without_the_permission_are_closed(tabs: list[Tab]) -> None:
    _, client = await member()
    tab = Tab(client)
    tabs.append(tab)
    assert await tab.open()
    assert await tab.closed_with() == LOG_IN


async def test_who_may_change_accounts_may_watch_them(tabs: list[Tab]) -> None:
    session, (_, client) = await account(), await member("change_account")
    tab = Tab(client)
    tabs.append(tab)
    assert await tab.open()
    await tab.watch(session.pk)
    assert (await tab.shown())["id"] == session.pk


async def test_a_second_tab_shows_the_same(tabs: list[Tab]) -> None:
    session, (_, client) = await account(), await member("view_account", "pair_session")
    for _ in range(2):
        tab = Tab(client)
        tabs.append(tab)
        assert await tab.open()
        await tab.watch(session.pk, panel=session.pk)
        assert (await tab.shown())["state"] == "unpaired"
    await database_sync_to_async(change)(session, state="pairing", qr_text="2@one,two,three,four,1", code_count=1)
    first, second = [await tab.shown() for tab in tabs]
    assert first == second
    assert first["state"] == "pairing"
    assert "<svg" in first["panel"]


async def test_a_code_is_not_sent_to_who_may_only_look(tabs: list[Tab]) -> None:
    session, (_, client) = await account(state="pairing", qr_text="2@secret,b,c,d,1"), await member("view_account")
    tab = Tab(client)
    tabs.append(tab)
    await tab.open()
    await tab.watch(session.pk, panel=session.pk)
    shown = await tab.shown()
    assert "<svg" not in shown["panel"]
    assert "secret" not in str(shown)
    assert "You may not see pairing codes" in shown["panel"]


@pytest.mark.parametrize("how", ["permission", "disabled", "logged out"])
async def test_a_right_that_goes_while_it_is_open_ends_it_before_the_next_push(tabs: list[Tab], how: str) -> None:
    session, (user, client) = await account(), await member("view_account")
    tab = Tab(client)
    tabs.append(tab)
    await tab.open()
    await tab.watch(session.pk)
    await tab.shown()
    if how == "permission":
        await database_sync_to_async(user.user_permissions.clear)()
    elif how == "disabled":
        user.is_active = False
        await database_sync_to_async(user.save)()
    else:
        await database_sync_to_async(client.logout)()
    await database_sync_to_async(change)(session, state="pairing")
    message = await tab.socket.receive_output(timeout=30)
    assert message == {"type": "websocket.close", "code": LOG_IN} or message["code"] == LOG_IN


@pytest.mark.parametrize("wrong", ['{"watch": "all"}', '{"watch": ["1"]}', "[]", "7"])
async def test_what_is_no_list_of_ids_closes_it(tabs: list[Tab], wrong: str) -> None:
    _, client = await member("view_account")
    tab = Tab(client)
    tabs.append(tab)
    await tab.open()
    await tab.socket.send_to(text_data=wrong)
    assert await tab.closed_with() == 4400
