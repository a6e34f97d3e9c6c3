"""Messages and receipts: taken from one device, kept until the other has acknowledged them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .binary_xml import Node, node
from .device import Device
from .jid import HIDDEN_USERS, SERVER, Jid

if TYPE_CHECKING:
    from .connection import Connection


def take(connection: Connection, device: Device, stanza: Node) -> None:
    """Take a message, a receipt or an acknowledgement; anything else says nothing to anybody."""
    if stanza.tag == "message":
        _message(connection, device, stanza)
    elif stanza.tag == "receipt":
        _receipt(connection, device, stanza)
    elif stanza.tag == "ack":
        _settle(connection, device, stanza["class"], stanza["id"])


def deliver_waiting(connection: Connection, device: Device) -> None:
    """Hand over what a device missed, right after its log-in."""
    waiting = list(device.inbox.values())
    for stanza in waiting:
        _hand_over(connection, device, stanza)
    offline = node("offline", {"count": len(waiting)})
    connection.send(node("ib", {"from": SERVER}, offline))


def _message(connection: Connection, sender: Device, stanza: Node) -> None:
    troubles, number = connection.network.troubles, connection.number
    error, message_id = troubles.ack_error(number), stanza["id"]
    sender.sent[message_id] += 1
    if error is None:
        _distribute(connection, sender, stanza)
    if not troubles.withholds_acks(number):
        connection.send(node("ack", {"class": "message", "id": message_id, "from": stanza.jid("to"),
                                     "t": int(time.time()), "error": error}))  # fmt: skip
    connection.network.changed()


def _distribute(connection: Connection, sender: Device, stanza: Node) -> None:
    """Give each device of the recipient and of the sender its own encrypted copy."""
    to, proof = stanza.jid("to"), stanza.find("device-identity")
    participants = stanza.find("participants")
    for each in participants.every("to") if participants else ():
        jid, sealed = each.jid("jid"), each.find("enc")
        device = connection.network.find(jid) if jid else None
        if jid is None or device is None or sealed is None:
            continue
        own = device.jid.user == sender.jid.user
        attributes = _from(sender, jid) | {
            "id": stanza["id"], "type": stanza["type"], "t": str(int(time.time())), "notify": sender.jid.user,
        }  # fmt: skip
        if own and to is not None:
            attributes["recipient"] = to
        children = [sealed, *([proof] if proof else [])]
        _post(connection, device, Node("message", attributes, children))


def _receipt(connection: Connection, reader: Device, stanza: Node) -> None:
    """Pass a receipt on to the device that sent the message, or to all devices of its account."""
    network, to, kind = connection.network, stanza.jid("to"), stanza["type"]
    connection.send(node("ack", {"class": "receipt", "id": stanza["id"], "from": to, "type": kind or None,
                                 "t": int(time.time())}))  # fmt: skip
    _settle(connection, reader, "message", stanza["id"])
    if to is None or not to.user:
        return
    exact = network.find(to)
    targets = [exact] if exact else list(network.account_of(to).devices.values())
    for target in targets:
        if target is reader:
            continue
        attributes = _from(reader, to) | {"id": stanza["id"], "t": str(int(time.time()))}
        if kind:
            attributes["type"] = kind
        _post(connection, target, Node("receipt", attributes, stanza.children))


def _from(sender: Device, addressed: Jid) -> dict[str, str | Jid]:
    """Return the sender's address, of the kind the recipient was addressed by."""
    if addressed.server == HIDDEN_USERS:
        return {"from": sender.lid, "sender_pn": sender.jid.account}
    return {"from": sender.jid, "sender_lid": sender.lid.account}


def _post(connection: Connection, device: Device, stanza: Node) -> None:
    device.inbox[stanza.tag, stanza["id"]] = stanza
    live = connection.network.live.get(device.jid)
    if live is not None:
        _hand_over(live, device, stanza)


def _hand_over(connection: Connection, device: Device, stanza: Node) -> None:
    if stanza.tag == "message":
        device.delivered[stanza["id"]] += 1
    connection.send(stanza)
    connection.network.changed()


def _settle(connection: Connection, device: Device, tag: str, identity: str) -> None:
    """Forget what a device has acknowledged."""
    if device.inbox.pop((tag, identity), None) and tag == "message":
        device.acknowledged[identity] += 1
    connection.network.changed()
