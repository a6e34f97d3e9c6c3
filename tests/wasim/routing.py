"""Messages and receipts between the devices the server knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .binary_xml import Node, node
from .connection import Connection
from .device import Device, Message
from .jid import HIDDEN_USERS, USERS, Jid
from .queries import _full_identity, _number

if TYPE_CHECKING:
    from .server import Server


async def deliver_waiting(device: Device, connection: Connection) -> None:
    """Hand over what arrived while the device was away."""
    waiting, device.waiting = device.waiting, []
    for stanza in waiting:
        await connection.send(stanza)


async def route(server: Server, device: Device, connection: Connection, stanza: Node) -> None:
    """Handle anything but a query."""
    if stanza.tag == "message":
        await _message(server, device, connection, stanza)
    elif stanza.tag == "receipt":
        await _receipt(server, device, connection, stanza)


async def _message(server: Server, device: Device, connection: Connection, stanza: Node) -> None:
    rules = server.rules
    device.messages.append(Message(stanza["id"], stanza["to"], time.time()))
    error = rules.ack_errors.get(device.phone, rules.ack_errors.get(""))
    if not rules.holds(rules.withheld_acks, device.phone):
        ack = {"class": "message", "id": stanza["id"], "from": stanza.attributes.get("to"), "t": int(time.time()),
               "error": error}  # fmt: skip
        await connection.send(node("ack", ack))
    if error is not None:
        return
    participants = stanza.find("participants")
    for to in participants.every("to") if participants else ():
        jid, encrypted = to.jid("jid"), to.find("enc")
        target = _device(server, jid) if jid else None
        if target is None or encrypted is None or target is device:
            continue
        hidden = jid is not None and jid.server == HIDDEN_USERS
        copy = node(
            "message",
            {"from": device.lid if hidden else device.jid, "id": stanza["id"], "type": stanza["type"] or "text",
             "t": int(time.time()), "notify": f"Phone {device.phone}",
             "sender_pn": Jid(device.phone, USERS) if hidden else None},
            encrypted, node("device-identity", data=_full_identity(server, device)),
        )  # fmt: skip
        await _hand_over(target, copy)


async def _receipt(server: Server, device: Device, connection: Connection, stanza: Node) -> None:
    await connection.send(node("ack", {"class": "receipt", "id": stanza["id"], "type": stanza["type"] or None,
                                       "from": stanza.attributes.get("to")}))  # fmt: skip
    to = stanza.jid("to")
    if to is None:
        return
    hidden = to.server == HIDDEN_USERS
    copy = node("receipt", {"from": device.lid if hidden else device.jid, "id": stanza["id"],
                            "type": stanza["type"] or None, "t": int(time.time())})  # fmt: skip
    for target in [_device(server, to)] if to.device else server.of(_number(server, to)):
        if target is not None and target is not device:
            await _hand_over(target, copy)


async def _hand_over(target: Device, stanza: Node) -> None:
    if target.live:
        await target.live[-1].send(stanza)
    else:
        target.waiting.append(stanza)


def _device(server: Server, jid: Jid) -> Device | None:
    return server.devices.get(Jid(_number(server, jid), USERS, jid.device))
