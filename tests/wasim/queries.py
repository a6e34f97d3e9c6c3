"""Answers to the client's queries (iq)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import groups
from .binary_xml import Node, node
from .device import Device
from .jid import HIDDEN_USERS, SERVER, USERS, Jid

if TYPE_CHECKING:
    from .server import Server


def answer(server: Server, device: Device, query: Node) -> list[Node]:
    """Return the replies to a query; anything unknown gets an empty result."""
    if query["type"] in ("result", "error"):
        return []
    space, children = query["xmlns"], []
    if space == "w:p":
        device.keepalives += 1
    elif space == "encrypt":
        children = _encrypt(server, device, query)
    elif space == "usync":
        children = _usync(server, query)
    elif space == "w:m":
        children = [server.media.connection()]
    elif space in ("w:g2", "w:profile:picture"):
        found = groups.answer(server, device.phone, query) if space == "w:g2" else _picture(server, query)
        if found is None:
            error = node("error", {"code": 404, "text": "item-not-found"})
            return [node("iq", {"from": query.attributes.get("to"), "type": "error", "id": query["id"]}, error)]
        children = found
    elif space == "md" and query.find("remove-companion-device"):
        server.forget(device)
    return [node("iq", {"from": SERVER, "type": "result", "id": query["id"]}, *children)]


def _encrypt(server: Server, device: Device, query: Node) -> list[Node]:
    if query["type"] == "get" and query.find("count"):
        return [node("count", {"value": len(device.prekeys)})]
    if query["type"] == "set" and (keys := query.find("list")):
        device.registration = query.bytes_of("registration")
        device.signed_prekey = (
            query.bytes_of("skey", "id"), query.bytes_of("skey", "value"), query.bytes_of("skey", "signature"),
        )  # fmt: skip
        device.prekeys += [(key.bytes_of("id"), key.bytes_of("value")) for key in keys.every("key")]
        return []
    wanted = query.find("key")
    if query["type"] == "get" and wanted:
        users = [_bundle(server, jid) for user in wanted.every("user") if (jid := user.jid("jid"))]
        return [node("list", {}, *filter(None, users))]
    return []


def _bundle(server: Server, jid: Jid) -> Node | None:
    """Return the keys with which a first message to this device is encrypted."""
    number = server.number_of(jid)
    if jid.device == 0:
        phone = server.phone(number)
        skey = phone.signed_prekey
        return node(
            "user", {"jid": jid}, node("registration", data=(1).to_bytes(4, "big")), node("type", data=b"\x05"),
            node("identity", data=phone.identity.public),
            node("skey", {}, node("id", data=b"\0\0\1"), node("value", data=skey.public),
                 node("signature", data=phone.identity.sign(b"\x05" + skey.public))),
        )  # fmt: skip
    device = server.device_at(jid)
    if device is None or not device.signed_prekey[1]:
        return None
    key_number, value, signature = device.signed_prekey
    children = [
        node("registration", data=device.registration), node("type", data=b"\x05"),
        node("identity", data=device.identity),
        node("skey", {}, node("id", data=key_number), node("value", data=value), node("signature", data=signature)),
    ]  # fmt: skip
    if device.prekeys:
        key_id, key = device.prekeys.pop(0)
        children.append(node("key", {}, node("id", data=key_id), node("value", data=key)))
    children.append(node("device-identity", data=server.full_identity(device)))
    return node("user", {"jid": jid}, *children)


def _picture(server: Server, query: Node) -> list[Node] | None:
    target, wanted = query.jid("target"), query.find("picture")
    url = server.phone(server.number_of(target)).picture if target else ""
    if not url:
        return None
    kind = wanted["type"] if wanted else "image"
    return [node("picture", {"id": 1, "url": url, "direct_path": "/p", "type": kind})]


def _usync(server: Server, query: Node) -> list[Node]:
    usync = query.find("usync")
    if usync is None:
        return []
    wants_lid = usync.find("query", "lid") is not None
    users = []
    listed = usync.find("list")
    for user in listed.every("user") if listed else ():
        jid, contact = user.jid("jid"), user.find("contact")
        asked = contact.data if contact else None
        if jid is None:
            digits = "".join(filter(str.isdigit, (contact.data or b"").decode())) if contact else ""
            jid = Jid(digits, USERS)
        number = server.number_of(jid)
        if number in server.rules.absent:
            users.append(node("user", {"jid": jid}, node("contact", {"type": "out"}, data=asked)))
            continue
        phone = server.phone(number)
        devices = [node("device", {"id": 0})]
        devices += [node("device", {"id": d.number, "key-index": d.number}) for d in server.of(number)]
        children = [
            node("devices", {}, node("device-list", {}, *devices), node("key-index-list", {"ts": int(time.time())})),
            node("contact", {"type": "in"}, data=asked),
        ]
        if wants_lid:
            children.append(node("lid", {"val": Jid(phone.lid_user, HIDDEN_USERS)}))
        users.append(node("user", {"jid": jid}, *children))
    return [node("usync", {"mode": "query", "context": "message"}, node("result"), node("list", {}, *users))]
