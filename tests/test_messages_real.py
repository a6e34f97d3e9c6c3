"""Messages end to end: a hosted account, the real client library on both sides, the simulator between them."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from django.conf import settings

from accounts.models import Account
from messaging.kinds import Kind
from messaging.models import Chat, Event, Media, Message
from sessions_app.models import Session
from sessions_app.whatsapp.contents import Reference, Text
from tests.contract_real import RealSide, RealSubject
from tests.installation import Installation, wait_for
from tests.wasim import Wasim

pytestmark = pytest.mark.real

_numbers = count(4_918_100_000_001)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, sim: Wasim) -> Iterator[RealSide]:
    """Real sessions outside the installation: the people it talks to."""
    side = RealSide(tmp_path_factory.mktemp("stores"), sim)
    yield side
    side.close()


@pytest.fixture
def unpaced(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    installation.environment["PACING"] = "0"
    monkeypatch.setattr(settings, "MEDIA_DIR", installation.folder / "media")
    return installation


def new_number() -> str:
    return str(next(_numbers))


def queue(session: Session, to: str, text: str, kind: Kind = Kind.TEXT, **options: Any) -> Message:
    chat = Chat.objects.of(session.account, to if "@" in to else f"{to}@s.whatsapp.net")
    return Message.queue(chat, kind, options.pop("content", {"text": text}), **options)


def until(row: Message, *states: str, seconds: float = 20) -> Message:
    def there() -> Message | None:
        now = Message.objects.select_related("chat", "media").get(pk=row.pk)
        return now if now.state in states else None

    found = wait_for(there, seconds, lambda: vars(Message.objects.get(pk=row.pk)))
    assert found is not None
    return found


def inbox(account: Account) -> list[Message]:
    rows = Message.objects.filter(account=account, direction="in")
    return list(rows.select_related("chat", "media", "target").order_by("pk"))


def test_a_conversation_is_sent_delivered_read_and_answered(unpaced: Installation, peers: RealSide) -> None:
    ben = new_number()
    his = peers.online(ben)
    session = unpaced.paired("anna", new_number())
    unpaced.start_host()
    unpaced.until(session, "connected")
    row = queue(session, ben, "Selamat pagi")
    message = his.heard.message()
    assert message.content == Text("Selamat pagi")
    sent = until(row, "delivered")
    assert sent.whatsapp_id == message.id
    his.talk("mark_read", chat=message.chat, sender=message.sender.address, ids=[message.id])
    until(row, "read")
    his.send(message.chat, Text("Pagi!", reply_to=Reference(message.id, message.sender.address, "Selamat pagi")))
    wait_for(lambda: inbox(session.account))
    [answer] = inbox(session.account)
    assert (answer.text, answer.target_id, answer.sender_phone) == ("Pagi!", row.pk, ben)
    assert answer.sender_lid
    assert answer.chat == row.chat
    assert answer.chat.last_inbound_at
    kinds = Event.objects.filter(account=session.account).order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["message.sent", "message.delivered", "message.read", "message.received"]
    his.stop()


FILES = {
    Kind.IMAGE: ("image/jpeg", {"caption": "lihat"}), Kind.VIDEO: ("video/mp4", {"caption": "lihat"}),
    Kind.AUDIO: ("audio/mpeg", {}), Kind.VOICE: ("audio/ogg; codecs=opus", {}),
    Kind.DOCUMENT: ("application/pdf", {"filename": "laporan.pdf"}), Kind.STICKER: ("image/webp", {}),
}  # fmt: skip


def test_two_hosted_accounts_exchange_every_kind_of_file_and_talk_in_a_group(
    unpaced: Installation, peers: RealSide
) -> None:
    anna, ben = unpaced.paired("anna", new_number()), unpaced.paired("ben", new_number())
    carla = new_number()
    hers = peers.online(carla)
    unpaced.start_host()
    unpaced.until_all([anna, ben], "connected")
    sent: dict[str, bytes] = {}
    for kind, (mime, content) in FILES.items():
        sent[kind] = os.urandom(50_000 + len(kind))
        file = Media.store(sent[kind], mime, "laporan.pdf" if kind is Kind.DOCUMENT else "")
        queue(anna, str(ben.account.phone), "", kind, content=content, media=file)
    wait_for(lambda: Media.objects.filter(messages__account=ben.account, state="stored").count() == len(FILES), 30,
             lambda: [vars(row) for row in inbox(ben.account)])  # fmt: skip
    for row in inbox(ben.account):
        mime, content = FILES[Kind(row.kind)]
        assert row.media is not None
        assert (row.media.read(), row.media.mime) == (sent[row.kind], mime)
        assert content.items() <= row.content.items()
    assert {row.kind for row in inbox(ben.account)} == set(FILES)

    people = [str(anna.account.phone), str(ben.account.phone), carla]
    group = peers.make_group(f"1203631{next(_numbers)}", "Kantor", people)
    row = queue(anna, group, "to all")
    message = hers.heard.message()
    assert (message.content, message.chat) == (Text("to all"), group)
    wait_for(lambda: [each.text for each in inbox(ben.account) if each.chat.jid == group] == ["to all"])
    until(row, "delivered")
    hers.talk("mark_read", chat=group, sender=message.sender.address, ids=[message.id])
    until(row, "read")
    members = {each.participant.partition("@")[0]: each for each in row.receipts.all()}
    assert set(members) == {str(ben.account.phone), carla}
    assert members[carla].read_at
    assert members[str(ben.account.phone)].read_at is None
    hers.stop()


def test_a_send_cut_off_by_a_kill_is_uncertain_until_its_late_receipt(unpaced: Installation, peers: RealSide) -> None:
    assert unpaced.sim is not None
    ben, number = new_number(), new_number()
    his = peers.online(ben)
    session = unpaced.paired("anna", number)
    unpaced.environment |= {"LEASE": "4", "LEASE_RENEWAL": "1"}
    host = unpaced.start_host()
    unpaced.until(session, "connected")
    his.stop()  # so that no receipt comes before the kill
    unpaced.sim.faults.withhold_acks(number)
    row = queue(session, ben, "did it arrive?")
    wait_for(lambda: unpaced.sim and unpaced.sim.device(number).messages)
    assert until(row, "sending").epoch == 1
    host.kill()
    unpaced.sim.faults.withhold_acks(number, False)
    unpaced.start_host()
    lost = until(row, "uncertain")
    assert (lost.error_code, lost.whatsapp_id) == ("host_died", None)
    again = peers.connect(his.store)
    found = until(row, "delivered")
    assert found.whatsapp_id == again.heard.message().id
    assert unpaced.sim.device(number).messages[0].id == found.whatsapp_id
    assert len(unpaced.sim.device(number).messages) == 1
    again.stop()


def test_a_message_that_could_not_be_read_is_sent_again_by_the_library(unpaced: Installation, peers: RealSide) -> None:
    assert unpaced.sim is not None
    ben, number = new_number(), new_number()
    his = peers.online(ben)
    session = unpaced.paired("anna", number)
    unpaced.start_host()
    unpaced.until(session, "connected")
    until(queue(session, ben, "first"), "delivered")
    unpaced.sim.faults.garble(ben, 1)
    row = until(queue(session, ben, "garbled on its way"), "delivered", seconds=40)
    assert his.heard.message(2).id == row.whatsapp_id
    assert [message.content for message in his.heard.messages] == [Text("first"), Text("garbled on its way")]
    his.stop()


def test_a_host_killed_while_sending_loses_nothing_and_sends_nothing_twice(
    unpaced: Installation, peers: RealSide
) -> None:
    ben = new_number()
    his = peers.online(ben)
    assert isinstance(his, RealSubject)
    sessions = [unpaced.paired(f"account {n}", new_number()) for n in range(3)]
    unpaced.environment["LEASE"], unpaced.environment["LEASE_RENEWAL"] = "4", "1"
    dice, rows, kills = random.Random(7), [], 4
    for session in sessions:
        rows += [queue(session, ben, f"{session.pk}-{number}") for number in range(60)]
    at_kills = 0
    for _ in range(kills):
        host = unpaced.start_host()
        begun = Message.objects.exclude(state="queued").count()
        wait_for(lambda begun=begun: Message.objects.exclude(state="queued").count() > begun + 5, 40,  # type: ignore[misc]
                 unpaced.log("host-1"))  # fmt: skip
        time.sleep(dice.random() * 0.3)
        host.kill()
        at_kills += Message.objects.filter(state="sending").count()
    unpaced.start_host()
    wait_for(lambda: not Message.objects.filter(state__in=["queued", "sending"]).exists(), 60,
             lambda: Counter(Message.objects.values_list("state", flat=True)))  # fmt: skip
    # test_reread.py has the proof; here a starved machine may hear of one too late (CHANGELOG, "Not there yet").
    wait_for(lambda: Message.objects.filter(state="sent").count() <= 1, 45,
             lambda: Counter(Message.objects.values_list("state", flat=True)))  # fmt: skip

    def heard_texts() -> Counter[str]:
        return Counter(message.content.text for message in his.heard.messages if isinstance(message.content, Text))

    states = {row.text: row.state for row in Message.objects.filter(direction="out")}
    assert len(states) == len(rows)
    certain = {text for text, state in states.items() if state != "uncertain"}
    # His library confirms a message before it tells of it, seconds before when it had to ask for it again.
    wait_for(lambda: certain <= heard_texts().keys(), 20, lambda: certain - heard_texts().keys())
    time.sleep(1)  # for what must not come: a second one
    heard = heard_texts()
    assert [text for text, times in heard.items() if times > 1] == []
    assert len(states) - len(certain) <= at_kills <= kills * len(sessions)
    his.stop()
