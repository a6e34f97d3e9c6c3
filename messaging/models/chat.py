"""Chat: one conversation of one account, and the pauses that hold its cold ones back."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts import phone
from accounts.change import change_each
from accounts.lookup import select
from accounts.models import Account
from messaging.models.gathering import Gathering

USER, GROUP, LID = "s.whatsapp.net", "g.us", "lid"


#: Whether a chat is with whom `known_as` names. What is not known (NULL) equals nothing.
KNOWN = "(messaging_chat.jid = %s OR messaging_chat.phone = %s OR messaging_chat.lid = %s)"


def known_as(jid: str, number: str = "", lid: str = "") -> tuple[str, str | None, str | None]:
    """Return the address, number and LID any of which a chat with this address has, as far as they are known.

    `number` is digits, `lid` the digits of the LID.
    """
    user, _at, server = jid.partition("@")
    if server == GROUP:
        return jid, None, None
    return jid, number or (user if server == USER else None), lid or (user if server == LID else None)


_OF_ACCOUNT = f"WHERE account_id = %s AND {KNOWN} ORDER BY id LIMIT 1"


class ChatQuerySet(models.QuerySet["Chat"]):
    def of(self, account: Account | int, jid: str, *, number: str = "", lid: str = "", name: str = "",
           among: Collection[Chat] = ()) -> Chat:  # fmt: skip
        """Return the account's chat with this JID, made when it is new; learns what is new of number, LID and name.

        A person is one chat whether addressed by number or by LID. `number` is digits, `lid` the digits of the LID.
        The database is asked only when it is not `among` those.
        """
        account_id = account if isinstance(account, int) else account.pk
        known = known_as(jid, number, lid)
        is_group = jid.endswith(f"@{GROUP}")
        if not is_group:
            number, lid = known[1] or "", known[2] or ""
            jid = f"{number}@{USER}" if number else jid
        fitting = [chat for chat in among if chat.account_id == account_id
                   and (chat.jid == known[0] or chat.phone == known[1] or chat.lid == known[2])]  # fmt: skip
        found = sorted(fitting, key=lambda chat: chat.pk) or select(Chat, _OF_ACCOUNT, [account_id, *known])
        chat = next(iter(found), None)
        if chat is None:
            chat, _made = self.get_or_create(
                account_id=account_id, jid=jid, defaults={"phone": number, "lid": lid, "name": name[:120]}
            )
            return chat
        said = {"name": name[:120]} if is_group else {"phone": number, "lid": lid, "name": name[:120]}
        learned = {field: value for field, value in said.items() if value and getattr(chat, field) != value}
        if learned:
            for field, value in learned.items():
                setattr(chat, field, value)
            chat.save(update_fields=list(learned))
        return chat


class Chat(models.Model):
    """With a person or a group. Messages leave it in the order they were accepted."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="chats", db_index=False)
    jid = models.CharField(_("address"), max_length=80)
    phone = models.CharField(_("phone number"), max_length=20, blank=True)
    lid = models.CharField(_("LID"), max_length=40, blank=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    #: None while the person never wrote to us: a cold contact.
    last_inbound_at = models.DateTimeField(_("last message from them"), null=True, blank=True)
    #: When WhatsApp last said that this number has no account there.
    absent_at = models.DateTimeField(_("not on WhatsApp"), null=True, blank=True)
    last_message_at = models.DateTimeField(_("last message"), null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = ChatQuerySet.as_manager()

    class Meta:
        verbose_name = _("chat")
        verbose_name_plural = _("chats")
        constraints = [models.UniqueConstraint(fields=["account", "jid"], name="chat_once_per_account")]
        indexes = [
            models.Index(fields=["account", "phone"], name="chat_by_phone"),
            models.Index(fields=["account", "lid"], name="chat_by_lid"),
        ]

    def __str__(self) -> str:
        return self.name or phone.display(self.phone) or self.jid

    #: So long it is believed that a number has no WhatsApp account.
    ABSENCE = timedelta(hours=24)

    @classmethod
    def note(cls, pk: int, at: datetime, *, inbound: bool) -> None:
        """A message of this chat was sent, or arrived: it is the newest."""
        NOTES.add((pk, at, inbound))

    def is_absent(self, now: datetime) -> bool:
        """Return whether WhatsApp said lately that this number has no account there."""
        return self.absent_at is not None and now - self.absent_at < self.ABSENCE

    @property
    def is_group(self) -> bool:
        """Return whether it is a group."""
        return self.jid.endswith(f"@{GROUP}")

    @property
    def is_cold(self) -> bool:
        """Return whether the person never wrote to us."""
        return self.last_inbound_at is None and not self.is_group


def _write(notes: list[tuple[int, datetime, bool]]) -> None:
    change_each(Chat, {pk: {"last_message_at": at} for pk, at, _inbound in notes})
    change_each(Chat, {pk: {"last_inbound_at": at} for pk, at, inbound in notes if inbound})


#: What is noted of chats; `together` writes it in two statements.
NOTES = Gathering(_write)


class ContactPauseQuerySet(models.QuerySet["ContactPause"]):
    def until(self, account_id: int, now: datetime) -> datetime | None:
        """Return until when this account writes to no cold contact, or None."""
        return self.untils([account_id], now).get(account_id)

    def untils(self, accounts: Collection[int], now: datetime) -> dict[int, datetime]:
        """Return the same for those of many accounts that are paused."""
        open_ones = self.filter(account__in=accounts, until__gt=now, ended_at=None)
        return dict(open_ones.order_by("until").values_list("account_id", "until"))  # the longest one comes last


class ContactPause(models.Model):
    """WhatsApp restricted an account (463): messages to people who never wrote to it wait; replies go on."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="contact_pauses")
    code = models.IntegerField(_("code"))
    started_at = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), db_index=True)
    ended_at = models.DateTimeField(_("ended early"), null=True, blank=True)

    objects = ContactPauseQuerySet.as_manager()

    class Meta:
        verbose_name = _("pause of cold contacts")
        verbose_name_plural = _("pauses of cold contacts")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.account} {self.code}"
