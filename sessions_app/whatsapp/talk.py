"""What a running client can be asked on the real library: to send, to look up, to download. See client.Client."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sessions_app.whatsapp import outgoing
from sessions_app.whatsapp.client import (
    Contact,
    Group,
    Member,
    NotSent,
    Picture,
    Sent,
    Typing,
    Unknown,
    WhatsAppError,
)
from sessions_app.whatsapp.contents import Content, Media
from sessions_app.whatsapp.inbound import GROUPS, HIDDEN_USERS, USERS, Person
from sessions_app.whatsapp.incoming import moment, person
from sessions_app.whatsapp.library import Library

_log = logging.getLogger(__name__)

_OFFLINE = "The account is not connected."
_CHAT_STATES = {Typing.COMPOSING: (0, 0), Typing.RECORDING: (0, 1), Typing.PAUSED: (1, 0)}
#: What the library says for a picture that is not there, or not for us.
_NO_PICTURE = ("does not have a profile picture", "hidden their profile picture", "not-authorized", "item-not-found")


class Talk(ABC):
    """The calls of one client."""

    def __init__(self, library: Library, pb: Any) -> None:
        self._library, self._pb = library, pb
        self._sending = threading.Lock()
        self._new = pb.Message.DESCRIPTOR.fields_by_name["Message"].message_type._concrete_class

    @property
    @abstractmethod
    def _uuid(self) -> bytes:
        """Return the library's name of this client."""

    @abstractmethod
    def _running(self) -> bool:
        """Return whether the client may be asked anything now."""

    @abstractmethod
    def _rouse(self) -> None:
        """Have what the client is about to say passed on at once."""

    def send(self, chat: str, content: Content) -> Sent:
        """Send one message; see client.Client."""
        to = self._jid(chat)
        with self._sending:
            upload = self._upload(content) if isinstance(content, Media) else None
            message = outgoing.message(self._new, chat, content, upload).SerializeToString()
            if not self._begin():
                raise NotSent("offline", _OFFLINE, retryable=True)
            answer = self._library.query("SendMessage", self._uuid, to, message)
        outcome = self._pb.SendMessageReturnFunction.FromString(answer)
        if outcome.Error:
            _log.info("send refused: %s", outcome.Error)
            raise outgoing.failure(outcome.Error)
        if not outcome.SendResponse.ID:
            raise Unknown("WhatsApp did not confirm the message (no id came back).")
        return Sent(outcome.SendResponse.ID, moment(outcome.SendResponse.Timestamp))

    def lookup(self, phones: Sequence[str]) -> list[Contact]:
        """Ask whether numbers are on WhatsApp; see client.Client."""
        numbers = " ".join(f"+{phone}" for phone in phones)
        found = self._ask("IsOnWhatsApp", self._pb.IsOnWhatsAppReturnFunction, numbers.encode())
        answers = {answer.Query.lstrip("+"): answer for answer in found.IsOnWhatsAppResponse}
        return [self._contact(phone, answers.get(phone)) for phone in phones]

    def picture(self, address: str, preview: bool = False) -> Picture | None:
        """Return a profile picture; see client.Client."""
        parameters = self._pb.GetProfilePictureParams(Preview=preview).SerializeToString()
        try:
            whom = self._jid(address)
            found = self._ask("GetProfilePicture", self._pb.GetProfilePictureReturnFunction, whom, parameters)
        except WhatsAppError as error:
            if any(text in str(error.__cause__) for text in _NO_PICTURE):
                return None
            raise
        return Picture(found.Picture.ID, found.Picture.URL) if found.Picture.URL else None

    def groups(self) -> list[Group]:
        """Return the groups; see client.Client."""
        return [_group(each) for each in self._ask("GetJoinedGroups", self._pb.GetJoinedGroupsReturnFunction).Group]

    def group(self, address: str) -> Group:
        """Return one group; see client.Client."""
        return _group(self._ask("GetGroupInfo", self._pb.GetGroupInfoReturnFunction, self._jid(address)).GroupInfo)

    def typing(self, chat: str, state: Typing) -> None:
        """Show typing; see client.Client."""
        self._command("SendChatPresence", self._jid(chat), *_CHAT_STATES[state])

    def available(self, available: bool) -> None:
        """Be online, or not; see client.Client."""
        self._command("SendPresence", "available" if available else "unavailable")

    def mark_read(self, chat: str, sender: str, ids: Sequence[str]) -> None:
        """Send read receipts; see client.Client."""
        now = int(time.time())
        self._command("MarkRead", " ".join(ids), now, self._jid(chat), self._jid(sender), "read")

    def download(self, source: bytes) -> bytes:
        """Fetch a received file; see client.Client."""
        return bytes(self._ask("DownloadAny", self._pb.DownloadReturnFunction, source).Binary)

    # -- calling

    def _begin(self) -> bool:
        """Return whether a call may be made now: the gate keeps a stop away while it begins."""
        self._rouse()
        self._library.gate.call_begins()
        return self._running()

    def _ask(self, name: str, form: Any, *arguments: bytes | int) -> Any:
        if not self._begin():
            raise WhatsAppError(_OFFLINE)
        answer = form.FromString(self._library.query(name, self._uuid, *arguments))
        if answer.Error:
            _log.info("%s refused: %s", name, answer.Error)
            raise WhatsAppError("WhatsApp did not answer the question.") from RuntimeError(answer.Error)
        return answer

    def _command(self, name: str, *arguments: bytes | int | str) -> None:
        if not self._begin():
            raise WhatsAppError(_OFFLINE)
        error = self._library.command(name, self._uuid, *arguments)
        if error:
            _log.info("%s refused: %s", name, error)
            raise WhatsAppError("WhatsApp did not take the request.") from RuntimeError(error)

    def _upload(self, media: Media) -> Any:
        if not self._begin():
            raise NotSent("offline", _OFFLINE, retryable=True)
        answer = self._library.query("Upload", self._uuid, media.data, outgoing.UPLOADS[media.kind])
        found = self._pb.UploadReturnFunction.FromString(answer)
        if found.Error:
            _log.info("upload refused: %s", found.Error)
            raise outgoing.upload_failure(found.Error)
        return found.UploadResponse

    def _jid(self, address: str) -> bytes:
        user, at, server = address.partition("@")
        if not at or not user.replace("-", "").isdigit() or server not in (USERS, HIDDEN_USERS, GROUPS):
            raise NotSent("bad_address", f"“{address}” is not an address WhatsApp can deliver to.")
        jid = self._pb.JID(User=user, RawAgent=0, Device=0, Integrator=0, Server=server, IsEmpty=False)
        return bytes(jid.SerializeToString())

    def _contact(self, phone: str, answer: Any) -> Contact:
        if answer is None:
            return Contact(phone, Person(phone), False)
        name = answer.VerifiedName.Details.verifiedName if answer.HasField("VerifiedName") else ""
        return Contact(phone, person(answer.JID) if answer.IsIn else Person(phone), bool(answer.IsIn), str(name))


def _group(found: Any) -> Group:
    created = datetime.fromtimestamp(found.GroupCreated, UTC) if found.GroupCreated > 0 else None
    members = tuple(
        Member(person(each.PhoneNumber, each.LID, each.JID), bool(each.IsAdmin or each.IsSuperAdmin))
        for each in found.Participants
    )
    return Group(f"{found.JID.User}@{found.JID.Server}", found.GroupName.Name, found.GroupTopic.Topic,
                 person(found.OwnerPN, found.OwnerJID), created, members)  # fmt: skip
