"""Messages and receipts between the devices the server knows. What is handed over stays until it is acknowledged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .binary_xml import Node, node
from .connection import Connection
from .device import Device, Message
from .jid import HIDDEN_USERS, USERS, Jid

if TYPE_CHECKING:
    from .server import Server


async def deliver_waiting(device: Device, connection: Connection) -> None:
    """Hand over what a device missed, or took and did not acknowledge."""
    for stanza in list(device.waiting.values()):
        await _hand_over(device, connection, stanza)


async def route(server: Server, device: Device, connection: Connection, stanza: Node) -> None:
    """Handle anything but a query."""
    if stanza.tag == "message":
        await _message(server, device, connection, stanza)
    elif stanza.tag == "receipt":
        await _receipt(server, device, connection, stanza)
    elif stanza.tag == "ack":
        _settle(device, stanza["class"], stanza["id"])


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
        target = server.device_at(jid) if jid else None
        if jid is None or target is None or encrypted is None or target is device:
            continue
        attributes = _from(device, jid) | {"id": stanza["id"], "type": stanza["type"] or "text",
                                           "t": str(int(time.time())), "notify": f"Phone {device.phone}"}  # fmt: skip
        if target.phone == device.phone:  # a copy for the sender's other devices says where it went
            attributes["recipient"] = stanza.attributes["to"]
        proof = node("device-identity", data=server.full_identity(device))
        await _post(target, Node("message", attributes, [encrypted, proof]))


async def _receipt(server: Server, device: Device, connection: Connection, stanza: Node) -> None:
    """Pass a receipt on to the device that sent the message, or to all of its account."""
    await connection.send(node("ack", {"class": "receipt", "id": stanza["id"], "type": stanza["type"] or None,
                                       "from": stanza.attributes.get("to"), "t": int(time.time())}))  # fmt: skip
    _settle(device, "message", stanza["id"])
    to = stanza.jid("to")
    if to is None or not to.user:
        return
    attributes = _from(device, to) | {"id": stanza["id"], "t": str(int(time.time()))}
    if stanza["type"]:
        attributes["type"] = stanza["type"]
    for target in [server.device_at(to)] if to.device else server.of(server.number_of(to)):
        if target is not None and target is not device:
            await _post(target, Node("receipt", dict(attributes), stanza.children))


def _from(sender: Device, addressed: Jid) -> dict[str, str | Jid]:
    """Return the sender's address, of the kind the recipient was addressed by."""
    if addressed.server == HIDDEN_USERS:
        return {"from": sender.lid, "sender_pn": Jid(sender.phone, USERS)}
    return {"from": sender.jid, "sender_lid": sender.lid.account}


async def _post(target: Device, stanza: Node) -> None:
    target.waiting[stanza.tag, stanza["id"]] = stanza
    if target.live:
        await _hand_over(target, target.live[-1], stanza)


async def _hand_over(target: Device, connection: Connection, stanza: Node) -> None:
    if stanza.tag == "message":
        target.delivered[stanza["id"]] += 1
    await connection.send(stanza)


def _settle(device: Device, tag: str, identity: str) -> None:
    """Keep no longer what a device has acknowledged."""
    if device.waiting.pop((tag, identity), None) is not None and tag == "message":
        device.confirmed[identity] += 1
