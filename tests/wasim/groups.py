"""Groups: who is in them, and how they are described to a client."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .binary_xml import Node, node
from .jid import HIDDEN_USERS, USERS, Jid

if TYPE_CHECKING:
    from .server import Server

SERVER = "g.us"


@dataclass
class Group:
    """One group; the first of its members (numbers) made it."""

    number: str
    name: str
    members: list[str]
    hidden: bool = False  # its members are addressed by their hidden addresses, as in WhatsApp's newer groups
    made_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def jid(self) -> Jid:
        """Its address."""
        return Jid(self.number, SERVER)


def answer(server: Server, number: str, query: Node) -> list[Node] | None:
    """Return the reply to a query about groups by a member, None when there is no such group for it."""
    if query.find("participating"):
        mine = [_described(server, group) for group in server.groups.values() if number in group.members]
        return [node("groups", {}, *mine)]
    to = query.jid("to")
    group = server.groups.get(to.user) if to else None
    if group is None or number not in group.members:
        return None
    return [_described(server, group)]


def _described(server: Server, group: Group) -> Node:
    owner = group.members[0]
    people = []
    for number in group.members:
        phone, lid = Jid(number, USERS), Jid(server.phone(number).lid_user, HIDDEN_USERS)
        known = {"jid": lid, "phone_number": phone} if group.hidden else {"jid": phone, "lid": lid}
        people.append(node("participant", {**known, "type": "superadmin" if number == owner else None}))
    return node(
        "group",
        {"id": group.number, "subject": group.name, "s_t": group.made_at, "s_o": Jid(owner, USERS),
         "creation": group.made_at, "creator": Jid(owner, USERS), "addressing_mode": "lid" if group.hidden else "pn"},
        *people,
    )  # fmt: skip
