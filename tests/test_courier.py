"""The courier with the scripted fake, in this process: what becomes of queued messages, and of what arrives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from messaging.ageing import age
from messaging.courier import courier
from messaging.courier.courier import Courier
from messaging.courier.inbox import Known, store_message
from messaging.courier.journal import Journal
from messaging.courier.lane import Lane, claim
from messaging.kinds import Kind
from messaging.models import Ask, Chat, ContactPause, Event, HostRequest, Media, Message, PacingRule
from sessions_app.host.extension import Line
from sessions_app.models import Host, Session
from sessions_app.whatsapp import inbound
from sessions_app.whatsapp.client import NotSent, Unknown
from sessions_app.whatsapp.contents import Edit, Reaction, Reference, Revoke, Text
from sessions_app.whatsapp.fake import FakeWhatsApp
from sessions_app.whatsapp.inbound import Person, ReceiptKind
from tests.installation import wait_for
from tests.unconfirmed import leave_unconfirmed

pytestmark = pytest.mark.django_db(transaction=True)

_numbers = count(4_917_100_000_001)


class Office:
    """Accounts connected on one fake server, and the courier that serves them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.fake = FakeWhatsApp()
        self.lines: dict[int, Line] = {}
        self.host = Host.objects.create(name="host-1", heartbeat_at=timezone.now(), capacity=10)
        self.courier = Courier()

    def open(self) -> None:
        self.courier.start(self.host, lambda: dict(self.lines))

    def account(self, epoch: int = 1) -> Account:
        """Return an account whose session is connected and owned."""
        phone = str(next(_numbers))
        account = Account.objects.create(label=phone, phone=phone)
        Session.objects.filter(pk=account.session.pk).update(
            host=self.host, lease_epoch=epoch, state="connected", paired_at=timezone.now()
        )
        self.connect(account, epoch)
        return account

    def connect(self, account: Account, epoch: int = 1) -> None:
        store = self.fake.paired(str(self._folder / str(account.phone)), str(account.phone), "Staff")
        client = self.fake.connect(store, "", lambda _: None, lambda it: self.courier.receive(account.pk, it))
        self.lines[account.session.pk] = Line(account.session.pk, account.pk, epoch, client)
        self._written(account)

    def disconnect(self, account: Account) -> None:
        self.lines.pop(account.session.pk).client.stop()
        self._written(account)

    @staticmethod
    def _written(account: Account) -> None:
        """A host writes down that a session changed, which wakes whoever sleeps until somebody writes."""
        Session.objects.filter(pk=account.session.pk).update(checked_at=timezone.now())


@pytest.fixture
def office(tmp_path: Path, settings: Any) -> Iterator[Office]:
    settings.VAR_DIR, settings.MEDIA_DIR, settings.PACING = tmp_path, tmp_path / "media", False
    settings.OUTBOX_POLL = timedelta(seconds=0.03)
    office = Office(tmp_path)
    office.open()
    yield office
    office.courier.finish(5)


def queue(account: Account, to: Account | str, text: str = "hello", kind: Kind = Kind.TEXT, **options: Any) -> Message:
    number = to if isinstance(to, str) else str(to.phone)
    chat = Chat.objects.of(account, number if "@" in number else f"{number}@s.whatsapp.net")
    content = options.pop("content", {"text": text})
    return Message.queue(chat, kind, content, **options)


def fresh_chat(chat: Chat) -> Chat:
    return Chat.objects.get(pk=chat.pk)


def fresh(row: Message) -> Message:
    return Message.objects.select_related("chat", "media").get(pk=row.pk)


def until(row: Message, state: str, seconds: float = 10) -> Message:
    wait_for(lambda: fresh(row).state == state, seconds, lambda: vars(fresh(row)))
    return fresh(row)


def arrived(account: Account) -> list[Message]:
    return list(Message.objects.filter(account=account, direction="in").order_by("pk"))


def text_from(peer: Person, identity: str, text: str = "x") -> inbound.Message:
    return inbound.Message(identity, peer.address, peer, peer, False, timezone.now(), "Zoë", Text(text))


def told(account: Account) -> list[str]:
    return list(Event.objects.filter(account=account).order_by("pk").values_list("kind", flat=True))


def test_a_queued_text_is_sent_delivered_and_read(office: Office) -> None:
    anna, ben = office.account(), office.account()
    row = until(queue(anna, ben, "Apa kabar?"), "delivered")
    assert row.whatsapp_id
    assert row.attempts == 1
    [inbox] = wait_for(lambda: arrived(ben))
    assert (inbox.text, inbox.whatsapp_id, inbox.sender_phone) == ("Apa kabar?", row.whatsapp_id, anna.phone)
    assert inbox.sender_lid
    office.lines[ben.session.pk].client.mark_read(inbox.chat.jid, inbox.sender_jid, [str(inbox.whatsapp_id)])
    assert until(row, "read").read_at
    assert told(anna) == ["message.sent", "message.delivered", "message.read"]
    assert told(ben) == ["message.received"]


def test_messages_of_a_chat_leave_in_the_order_they_were_accepted(office: Office) -> None:
    anna, ben = office.account(), office.account()
    rows = [queue(anna, ben, f"number {number}") for number in range(20)]
    until(rows[-1], "delivered")
    assert [handed.content for handed in office.fake.handed] == [Text(f"number {n}") for n in range(20)]


def test_a_certain_failure_is_tried_again_after_five_seconds_and_later_ones_of_the_chat_wait(office: Office) -> None:
    anna, ben = office.account(), office.account()
    office.fake.fail_sends(str(anna.phone), NotSent("no_answer", "WhatsApp did not answer.", retryable=True))
    first, second = queue(anna, ben, "first"), queue(anna, ben, "second")
    wait_for(lambda: fresh(first).error_code)
    failed = fresh(first)
    assert failed.next_at
    assert (failed.state, failed.error_code) == ("queued", "no_answer")
    assert timedelta(seconds=4) < failed.next_at - failed.changed_at < timedelta(seconds=6)
    assert fresh(second).state == "queued"
    assert not office.fake.handed
    Message.objects.filter(pk=first.pk).update(next_at=timezone.now())
    until(second, "delivered")
    assert [handed.content for handed in office.fake.handed] == [Text("first"), Text("second")]
    assert fresh(first).attempts == 2


def test_a_message_that_can_never_be_sent_fails_and_blocks_no_other(office: Office) -> None:
    anna, ben = office.account(), office.account()
    office.fake.absent("4917999999999")
    lost, fine = queue(anna, "4917999999999"), queue(anna, ben)
    assert until(lost, "failed").error_code == "not_on_whatsapp"
    assert Chat.objects.get(phone="4917999999999").absent_at
    until(fine, "delivered")
    bad = queue(anna, ben, kind=Kind.REACTION, content={"emoji": "x"})
    assert until(bad, "failed").error_code == "target_not_sent"


def test_an_unknown_outcome_is_uncertain_and_is_not_sent_again(office: Office) -> None:
    anna = office.account()
    office.fake.fail_sends(str(anna.phone), Unknown("No answer."))
    row = until(queue(anna, "4917000000001"), "uncertain")  # nobody there to confirm it
    assert row.error_code == "outcome_unknown"
    until(queue(anna, "4917000000001", "next"), "sent")
    assert [handed.content for handed in office.fake.handed] == [Text("hello"), Text("next")]
    assert fresh(row).state == "uncertain"


def test_a_late_receipt_resolves_an_uncertain_message(office: Office) -> None:
    anna, ben = office.account(), office.account()
    office.fake.fail_sends(str(anna.phone), Unknown("No answer."))
    row = until(queue(anna, ben), "delivered")  # the other side confirmed it before the outcome was known
    assert row.whatsapp_id == office.fake.handed[0].id
    assert told(anna) == ["message.uncertain", "message.delivered"]
    assert len(office.fake.handed) == 1


@pytest.mark.parametrize(("ids", "uncertain"), [(["3EB0AA"], 2), (["3AAA"], 1), (["3EB0AA", "3EB0AB"], 1)])
def test_a_receipt_that_could_mean_another_message_resolves_nothing(
    office: Office, ids: list[str], uncertain: int
) -> None:
    anna = office.account()
    office.fake.fail_sends(str(anna.phone), *[Unknown("No answer.")] * uncertain)
    rows = [until(queue(anna, "4917000000002"), "uncertain") for _ in range(uncertain)]
    peer = Person("4917000000002")
    receipt = inbound.Receipt(ReceiptKind.DELIVERED, tuple(ids), peer.address, peer, peer, False, timezone.now())
    office.courier.receive(anna.pk, receipt)
    until(queue(anna, "4917000000003"), "sent")
    assert [fresh(row).state for row in rows] == ["uncertain"] * uncertain


def test_a_receipt_that_cannot_be_looked_up_again_holds_nothing_up(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> int:
        raise ValueError

    monkeypatch.setattr("messaging.courier.inbox.resolve", fail)
    anna, peer = office.account(), Person("4917000000002")
    receipt = inbound.Receipt(ReceiptKind.DELIVERED, ("3EB0AA",), peer.address, peer, peer, False, timezone.now())
    office.courier.receive(anna.pk, receipt)
    until(queue(anna, "4917000000003"), "sent")
    wait_for(lambda: not office.courier._parked and not office.courier._arrived)


def test_a_receipt_that_could_mean_what_a_killed_host_was_sending_resolves_nothing(office: Office) -> None:
    anna = office.account(epoch=4)
    office.fake.fail_sends(str(anna.phone), Unknown("No answer."))
    row = until(queue(anna, "4917000000002"), "uncertain")
    office.disconnect(anna)
    wait_for(lambda: not office.courier._lanes)  # as when a host begins: nobody has looked at what was left yet
    left = queue(anna, "4917000000002")
    Message.objects.filter(pk=left.pk).update(state="sending", epoch=3, claimed_at=timezone.now())
    peer = Person("4917000000002")
    receipt = inbound.Receipt(ReceiptKind.DELIVERED, ("3EB0AA",), peer.address, peer, peer, False, timezone.now())
    office.courier.receive(anna.pk, receipt)
    wait_for(lambda: not office.courier._parked and not office.courier._arrived)
    office.connect(anna, 4)
    assert until(left, "uncertain").error_code == "host_died"
    assert fresh(row).state == "uncertain"


def test_an_uncertain_message_is_sent_again_only_when_its_sender_chose_so(office: Office) -> None:
    anna = office.account()
    office.fake.fail_sends(str(anna.phone), Unknown("?"), Unknown("?"))
    held = until(queue(anna, "4917000000004"), "uncertain")
    resent = until(queue(anna, "4917000000005", on_uncertain="resend"), "uncertain")
    Message.objects.all().update(changed_at=timezone.now() - timedelta(minutes=5))
    age(timezone.now())
    until(resent, "sent")
    assert fresh(held).state == "uncertain"


def test_what_a_killed_host_was_sending_is_uncertain_at_the_next_start(office: Office) -> None:
    anna = office.account(epoch=4)
    office.disconnect(anna)
    row = queue(anna, "4917000000006")
    Message.objects.filter(pk=row.pk).update(state="sending", epoch=3, claimed_at=timezone.now())
    office.connect(anna, 4)
    assert until(row, "uncertain").error_code == "host_died"
    assert not office.fake.handed


def test_a_send_whose_host_and_owner_are_gone_becomes_uncertain_with_time(office: Office) -> None:
    office.account()
    gone = office.account(epoch=2)
    office.disconnect(gone)
    Session.objects.filter(account=gone).update(host=None)
    row = queue(gone, "4917000000010")
    Message.objects.filter(pk=row.pk).update(
        state="sending", epoch=2, claimed_at=timezone.now() - timedelta(minutes=5)
    )
    age(timezone.now())
    assert until(row, "uncertain").error_code == "host_died"


def test_a_host_that_lost_its_lease_claims_nothing(office: Office) -> None:
    anna = office.account()
    Session.objects.filter(account=anna).update(lease_epoch=2)
    row = queue(anna, "4917000000007")
    other = office.account()
    until(queue(other, "4917000000008"), "sent")
    assert fresh(row).state == "queued"
    assert len(office.fake.handed) == 1


def test_of_several_only_those_still_queued_and_under_our_leases_are_claimed() -> None:
    now, ours, others = timezone.now(), *(Host.objects.create(name=name) for name in ("ours", "others"))
    chosen = []
    for n in range(5):
        account = Account.objects.create(label=f"Account {n}", phone=f"491700000002{n}")
        Session.objects.filter(account=account).update(host=ours, lease_epoch=n + 1)
        lane = Lane(Line(account.session.pk, account.pk, n + 1, cast(Any, None)), now)
        chosen.append((lane, queue(account, "4917000000030", now=now)))
    assert [row for _lane, row in claim(chosen, ours, now)] == [row for _lane, row in chosen]
    assert [(fresh(row).state, fresh(row).epoch, fresh(row).attempts) for _lane, row in chosen] == [
        ("sending", n + 1, 1) for n in range(5)
    ]  # fmt: skip
    again = now + timedelta(seconds=1)
    assert claim(chosen, ours, again) == []  # somebody has them
    rows = [row for _lane, row in chosen]
    Message.objects.update(state="queued")
    rows[1].cancel("staff")
    Session.objects.filter(account=rows[2].account).update(lease_epoch=9)
    Session.objects.filter(account=rows[3].account).update(host=others)
    Message.objects.filter(pk=rows[4].pk).update(next_at=again + timedelta(minutes=1))
    assert [row for _lane, row in claim(chosen, ours, again)] == rows[:1]
    assert [fresh(row).state for row in rows] == ["sending", "cancelled", "queued", "queued", "queued"]


def test_an_outcome_that_was_overtaken_holds_up_no_other(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, ben = office.account(), office.account()
    monkeypatch.setattr(courier, "_TURN", 0.5)  # so both outcomes are written in one turn
    held = [office.fake.hold_sends(str(account.phone)) for account in (anna, ben)]
    rows = [queue(account, "4917000000031") for account in (anna, ben)]
    for row in rows:
        until(row, "sending")
    Message.objects.filter(pk=rows[0].pk).update(state="failed", error_code="host_died")
    for each in held:
        each.set()
    until(rows[1], "sent")
    wait_for(lambda: not any(lane.busy for lane in office.courier._lanes.values()))
    assert fresh(rows[0]).state == "failed"
    assert (told(anna), told(ben)) == ([], ["message.sent"])
    until(queue(anna, "4917000000032"), "sent")


def test_a_commit_that_nobody_answers_for_sends_nothing_twice_and_holds_nothing_up(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = office.account(), office.account()
    monkeypatch.setattr(courier, "_PAUSE", 0.01)
    done = leave_unconfirmed(monkeypatch, "courier")
    rows = [queue(anna, ben, f"letter {n}") for n in range(20)]
    for row in rows:
        assert until(row, "delivered", 30).attempts == 1
    wait_for(lambda: len(arrived(ben)) >= 20)
    assert [row.text for row in arrived(ben)] == [f"letter {n}" for n in range(20)]
    assert len(office.fake.handed) == 20
    assert sorted(told(anna)) == ["message.delivered"] * 20 + ["message.sent"] * 20
    assert told(ben) == ["message.received"] * 20
    assert {True, False} <= set(done)


def test_expired_and_cancelled_messages_are_not_sent(office: Office) -> None:
    anna = office.account()
    office.disconnect(anna)
    expired, cancelled = queue(anna, "4917000000009"), queue(anna, "4917000000009")
    Message.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    cancelled.cancel("staff")
    last = queue(anna, "4917000000009", "last")
    office.connect(anna)
    until(last, "sent")
    assert [handed.content for handed in office.fake.handed] == [Text("last")]
    age(timezone.now())
    assert until(expired, "failed").error_code == "expired"


def test_a_restricted_account_pauses_cold_contacts_and_goes_on_replying(office: Office) -> None:
    anna, ben = office.account(), office.account()
    until(queue(ben, anna, "a question"), "delivered")
    wait_for(lambda: arrived(anna))
    office.fake.fail_sends(str(anna.phone), NotSent("restricted", "Restricted.", number=463))
    cold = [queue(anna, f"49170000001{n}") for n in range(3)]
    answer = queue(anna, ben, "an answer")
    until(answer, "delivered")
    for row in cold:
        wait_for(lambda row=row: fresh(row).error_code)  # type: ignore[misc]
        waiting = fresh(row)
        assert waiting.next_at
        assert (waiting.state, waiting.error_code) == ("queued", "contacts_paused")
        assert waiting.next_at > timezone.now() + timedelta(hours=23)
    assert ContactPause.objects.get(account=anna).code == 463
    assert [handed.content for handed in office.fake.handed if handed.phone == anna.phone] == [Text("an answer")]


def test_an_account_keeps_the_gap_between_its_messages(office: Office, settings: Any) -> None:
    settings.PACING = True
    anna = office.account()
    PacingRule.objects.create(account=anna, gap=0.4, jitter=0)
    rows = [until(queue(anna, f"49170000002{n}"), "sent") for n in range(3)]
    times = [row.claimed_at for row in rows]
    assert all(b - a >= timedelta(seconds=0.4) for a, b in zip(times, times[1:], strict=False) if a and b)


def test_every_kind_of_change_of_a_message_is_stored_with_its_target(office: Office) -> None:
    anna, ben = office.account(), office.account()
    first = until(queue(anna, ben, "first"), "delivered")
    client = office.lines[anna.session.pk].client
    chat, own = f"{ben.phone}@s.whatsapp.net", Reference(str(first.whatsapp_id))
    client.send(chat, Reaction(own, "👍"))
    client.send(chat, Edit(own, "first, corrected"))
    client.send(chat, Revoke(own))
    client.send(chat, Edit(Reference("3EB0UNKNOWN"), "of a message we do not have"))
    wait_for(lambda: len(arrived(ben)) == 5)
    rows = arrived(ben)
    assert [row.kind for row in rows] == ["text", "reaction", "edit", "revoke", "edit"]
    assert {row.target_id for row in rows[1:4]} == {rows[0].pk}
    assert rows[0].text == "first, corrected"
    assert rows[0].revoked_at
    assert rows[4].content["target_whatsapp_id"] == "3EB0UNKNOWN"
    assert set(told(ben)) == {"message.received", "message.reaction", "message.edited", "message.revoked"}


def test_a_file_arrives_byte_for_byte(office: Office) -> None:
    anna, ben = office.account(), office.account()
    data = os.urandom(100_000)
    file = Media.store(data, "application/pdf", "report.pdf")
    content = {"caption": "here", "filename": "report.pdf"}
    until(queue(anna, ben, kind=Kind.DOCUMENT, content=content, media=file), "delivered")
    [row] = wait_for(lambda: arrived(ben))
    wait_for(lambda: Media.objects.get(messages=row).state == "stored")
    stored = Media.objects.get(messages=row)
    assert (stored.read(), stored.mime, stored.name) == (data, "application/pdf", "report.pdf")
    assert row.content == content


def test_a_file_that_is_gone_fails_its_message(office: Office) -> None:
    anna = office.account()
    file = Media.store(b"x", "image/png")
    file.file.unlink()
    row = queue(anna, "4917000000031", kind=Kind.IMAGE, content={}, media=file)
    assert until(row, "failed").error_code == "media_gone"


def test_nothing_that_arrives_is_lost_while_the_database_is_away(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = office.account(), office.account()
    store, left = Message.receive.__func__, [3]  # type: ignore[attr-defined]

    def away(cls: type[Message], *arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("the database went away")
        return store(cls, *arguments, **named)

    monkeypatch.setattr(Message, "receive", classmethod(away))
    sent = [office.lines[anna.session.pk].client.send(f"{ben.phone}@s.whatsapp.net", Text(f"{n}")) for n in range(5)]
    wait_for(lambda: len(arrived(ben)) == 5, 20)
    assert [row.whatsapp_id for row in arrived(ben)] == [each.id for each in sent]
    assert left[0] < 0


def test_what_a_killed_process_received_is_stored_by_the_next(office: Office, tmp_path: Path) -> None:
    ben = office.account()
    office.courier.finish(5)
    killed = Journal(tmp_path / "inbox")
    peer = Person("4917000000041", "77@lid")
    for number in range(3):
        killed.append(ben.pk, text_from(peer, f"3A{number}", f"number {number}"))
    os.write(killed._file, b"17 {cut sho")
    os.close(killed._file)
    for _ in range(2):  # a second start finds nothing more to do
        office.courier = Courier()
        office.open()
        wait_for(lambda: [row.text for row in arrived(ben)] == ["number 0", "number 1", "number 2"])
        office.courier.finish(5)
    assert not list((tmp_path / "inbox").glob("*.journal"))
    assert told(ben) == ["message.received"] * 3


def test_a_full_disk_keeps_nothing_from_the_database(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ben, peer = office.account(), Person("4917000000045")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda *_: 3)
        office.courier.receive(ben.pk, text_from(peer, "3A1"))
    office.courier.receive(ben.pk, text_from(peer, "3A2"))
    wait_for(lambda: [row.whatsapp_id for row in arrived(ben)] == ["3A1", "3A2"])
    wait_for(lambda: office.courier._journal._path.stat().st_size == 0)


def test_a_message_that_arrives_twice_is_stored_and_told_once(office: Office) -> None:
    ben = office.account()
    peer = Person("4917000000042")
    for identity in ("3A1", "3A1", "3A2"):
        office.courier.receive(ben.pk, text_from(peer, identity))
    wait_for(lambda: len(arrived(ben)) == 2)
    assert told(ben) == ["message.received"] * 2


def test_the_chats_of_what_arrives_together_are_looked_up_together(office: Office) -> None:
    ben, other = office.account(), office.account()
    known, hidden = Chat.objects.of(ben, "4917000000051@s.whatsapp.net"), Chat.objects.of(ben, "92@lid")
    group = Chat.objects.of(ben, "120363@g.us")
    both, found = Person("4917000000051", "91@lid"), Person("4917000000052", "92@lid")
    stranger = Person("4917000000053")
    everybody = replace(text_from(both, "3A6"), chat="120363@g.us", peer=Person())
    together: list[tuple[int, inbound.Inbound]] = [
        *((ben.pk, text_from(peer, f"3A{n}")) for n, peer in enumerate((both, found, stranger, stranger, both))),
        (ben.pk, everybody), (other.pk, text_from(both, "3A7")),
    ]  # fmt: skip
    with CaptureQueriesContext(connection) as asked:
        batch = Known.of(together)
        rows = [store_message(pk, each, batch) for pk, each in together if isinstance(each, inbound.Message)]
    chats = [row.chat for row in rows if row is not None]
    assert chats[:2] == [known, hidden]
    assert chats[2] == chats[3] not in (known, hidden)
    assert chats[4:6] == [known, group]
    assert chats[6].account_id == other.pk
    assert (fresh_chat(known).lid, fresh_chat(hidden).phone) == ("91", "4917000000052")
    looks = [each["sql"] for each in asked if each["sql"].startswith("SELECT") and "FROM messaging_chat" in each["sql"]]
    assert len(looks) == 3, looks  # all of them, and each of the two that are new


def test_something_for_an_account_that_is_gone_holds_up_nothing(office: Office, tmp_path: Path) -> None:
    ben, peer = office.account(), Person("4917000000043")
    for account_id in (999_999, ben.pk):
        office.courier.receive(account_id, text_from(peer, "3A1"))
    wait_for(lambda: arrived(ben))
    wait_for(lambda: (tmp_path / "inbox" / "rejected").exists())


def test_something_the_database_never_takes_holds_up_nothing(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben, peer = office.account(), Person("4917000000044")
    store = Message.receive.__func__  # type: ignore[attr-defined]

    def picky(cls: type[Message], chat: Chat, whatsapp_id: str, *arguments: Any, **named: Any) -> Any:
        if whatsapp_id == "3A2":
            raise OperationalError(1366, "Incorrect string value")  # what MySQL says of bad data
        return store(cls, chat, whatsapp_id, *arguments, **named)

    monkeypatch.setattr(Message, "receive", classmethod(picky))
    monkeypatch.setattr(courier, "_PAUSE", 0.02)
    for identity in ("3A1", "3A2", "3A3"):
        office.courier.receive(ben.pk, text_from(peer, identity))
    wait_for(lambda: [row.whatsapp_id for row in arrived(ben)] == ["3A1", "3A3"])
    assert (tmp_path / "inbox" / "rejected").read_bytes().count(b"\n") == 1


def test_a_client_about_to_be_stopped_finishes_the_send_under_way_and_begins_no_other(office: Office) -> None:
    anna = office.account()
    gate = office.fake.hold_sends(str(anna.phone))
    first, second = queue(anna, "4917000000051"), queue(anna, "4917000000052")
    wait_for(lambda: fresh(first).state == "sending")
    office.courier.settle(anna.session.pk, 0.1)
    assert fresh(first).state == "sending"
    gate.set()
    office.courier.settle(anna.session.pk, 10)
    assert fresh(first).state == "sent"
    assert fresh(second).state == "queued"


def test_questions_to_whatsapp_are_answered(office: Office) -> None:
    anna, ben = office.account(), office.account()
    office.fake.absent("4917000000061")
    group = office.fake.make_group("120363000000000001", "Kantor", [str(anna.phone), str(ben.phone)])

    def ask(what: Ask, **arguments: Any) -> HostRequest:
        request = HostRequest.put(anna, what, arguments, timedelta(seconds=10))
        wait_for(lambda: HostRequest.objects.get(pk=request.pk).answered_at)
        return HostRequest.objects.get(pk=request.pk)

    contacts = ask(Ask.CONTACTS, phones=[ben.phone, "4917000000061"]).answer["contacts"]
    assert [(each["phone"], each["on_whatsapp"]) for each in contacts] == [(ben.phone, True), ("4917000000061", False)]
    assert ask(Ask.PICTURE, jid=f"{ben.phone}@s.whatsapp.net").answer == {"url": "", "id": ""}
    assert ask(Ask.GROUPS).answer["groups"][0]["name"] == "Kantor"
    assert [each["phone"] for each in ask(Ask.GROUP, jid=group).answer["participants"]] == [anna.phone, ben.phone]
    assert ask(Ask.GROUP, jid="1@g.us").error_code == "whatsapp_refused"
    assert ask(Ask.TYPING, jid=f"{ben.phone}@s.whatsapp.net", state="composing").error_code == ""
    assert office.fake.server.post.typing == [(anna.phone, f"{ben.phone}@s.whatsapp.net", "composing")]
