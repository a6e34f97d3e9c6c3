"""Answers to what clients ask (`iq` stanzas)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .account import Account
from .binary_xml import Node, node
from .device import Device, PreKey
from .jid import Jid
from .link_code import BUNDLE, REGISTRATION, WRAPPED_COMPANION, LinkCode

if TYPE_CHECKING:
    from .connection import Connection

CURVE25519 = b"\x05"
"""The only type of key there is."""


def answer(connection: Connection, question: Node) -> None:
    """Answer a query; those the server does not know get an empty result."""
    ANSWERS.get(question["xmlns"], _anything)(connection, question)


def _encrypt(connection: Connection, question: Node) -> None:
    device = connection.device
    if device is None:
        connection.refuse(question, 401, "not-authorized")
    elif question.find("count"):
        connection.answer(question, node("count", {"value": len(device.prekeys)}))
    elif asked := question.find("key"):
        users = [_bundle(connection, jid) for user in asked.every("user") if (jid := user.jid("jid"))]
        connection.answer(question, node("list", None, *users))
    else:
        if question.find("list"):
            _upload(device, question)
        elif skey := question.find("skey"):
            device.signed_prekey = _prekey(skey)
        connection.network.save(device)
        connection.answer(question)


def _upload(device: Device, question: Node) -> None:
    listed = question.find("list")
    assert listed is not None
    known = {prekey.id for prekey in device.prekeys}
    device.prekeys += [prekey for key in listed.every("key") if (prekey := _prekey(key)).id not in known]
    device.registration = question.bytes_of("registration")
    if skey := question.find("skey"):
        device.signed_prekey = _prekey(skey)


def _prekey(key: Node) -> PreKey:
    return PreKey(key.bytes_of("id"), key.bytes_of("value"), key.bytes_of("signature"))


def _bundle(connection: Connection, jid: Jid) -> Node:
    """Return what is needed to write to a device for the first time; a one-time key is given once."""
    device = connection.network.find(jid)
    if jid.device == 0:
        account = connection.network.account_of(jid)
        return _keys(jid, b"\0\0\0\1", account.identity.public, account.signed_prekey(), None, b"")
    if device is None or device.signed_prekey is None:
        return node("user", {"jid": jid}, node("error", {"code": 404, "text": "item-not-found"}))
    once = device.prekeys.pop(0) if device.prekeys else None
    connection.network.save(device)
    return _keys(jid, device.registration, device.identity, device.signed_prekey, once, device.signed_identity)


def _keys(jid: Jid, registration: bytes, identity: bytes, signed: PreKey, once: PreKey | None, proof: bytes) -> Node:
    children = [
        node("registration", None, data=registration),
        node("type", None, data=CURVE25519),
        node("identity", None, data=identity),
        _key("skey", signed),
    ]
    if once is not None:
        children.append(_key("key", once))
    if proof:
        children.append(node("device-identity", None, data=proof))
    return node("user", {"jid": jid, "t": int(time.time())}, *children)


def _key(tag: str, prekey: PreKey) -> Node:
    children = [node("id", None, data=prekey.id), node("value", None, data=prekey.public)]
    if prekey.signature:
        children.append(node("signature", None, data=prekey.signature))
    return node(tag, None, *children)


def _md(connection: Connection, question: Node) -> None:
    """Unlink a device, or pair by a code."""
    removed, registration = question.find("remove-companion-device"), question.find(REGISTRATION)
    if removed and connection.device is not None:
        jid = removed.jid("jid")
        device = connection.network.find(jid) if jid else None
        connection.answer(question)
        if device is not None:
            connection.network.forget(device)
    elif registration:
        _link_code(connection, question, registration)
    else:
        connection.answer(question)


def _link_code(connection: Connection, question: Node, registration: Node) -> None:
    network, jid = connection.network, registration.jid("jid")
    if jid is None or connection.offer is None or network.troubles.codes_refused:
        connection.refuse(question, 400, "bad-request")
    elif registration["stage"] == "companion_hello":
        code = network.link_codes[jid.user] = LinkCode(connection, registration.bytes_of(WRAPPED_COMPANION))
        connection.answer(question, code.hello())
        network.changed()
    else:
        pending = network.link_codes.get(jid.user)
        connection.answer(question)
        if pending is not None and not pending.finished.done():
            pending.finished.set_result(registration.bytes_of(BUNDLE))


def _usync(connection: Connection, question: Node) -> None:
    """Tell which devices users have, and their hidden addresses."""
    asked, listed = question.find("usync", "query"), question.find("usync", "list")
    wanted = {child.tag for child in asked.children} if asked else set()
    users = []
    for user in listed.every("user") if listed else ():
        jid = user.jid("jid")
        if jid is not None:
            users.append(_user(jid, connection.network.account_of(jid), wanted))
    usync = question.find("usync")
    sid = usync["sid"] if usync else ""
    connection.answer(question, node("usync", {"sid": sid, "index": 0, "last": "true"}, node("list", None, *users)))


def _user(jid: Jid, account: Account, wanted: set[str]) -> Node:
    children = []
    if "devices" in wanted:
        indices = [(0, None), *((index, device.key_index) for index, device in sorted(account.devices.items()))]
        devices = [node("device", {"id": index, "key-index": key_index}) for index, key_index in indices]
        children.append(node("devices", None, node("device-list", None, *devices),
                             node("key-index-list", {"ts": int(time.time())})))  # fmt: skip
    if "lid" in wanted:
        children.append(node("lid", {"val": account.lid}))
    return node("user", {"jid": jid}, *children)


def _passive(connection: Connection, question: Node) -> None:
    """The client says it is ready, after each log-in and when it wants a sign of life."""
    connection.answer(question)
    if connection.network.troubles.conflict(connection.number):
        connection.replace()


def _anything(connection: Connection, question: Node) -> None:
    connection.answer(question)


ANSWERS: dict[str, Callable[[Connection, Node], None]] = {
    "encrypt": _encrypt,
    "md": _md,
    "usync": _usync,
    "passive": _passive,
}
