"""Messages and receipts between the devices the server knows. What is handed over stays until it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .binary_xml import Node, node
from .connection import Connection
from .device import Device, Message
from .groups import SERVER as GROUPS
from .groups import Group
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
    elif stanza.tag == "chatstate":
        await _chatstate(server, device, stanza)


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
    group = server.groups.get(to.user) if (to := stanza.jid("to")) and to.server == GROUPS else None
    if group is not None:
        await _to_group(server, group, device, stanza)
        return
    participants = stanza.find("participants")
    recipients = [*participants.every("to")] if participants else []
    if (direct := stanza.find("enc")) is not None and to is not None and to.device:  # again, for one who asked
        recipients.append(Node("to", {"jid": to}, [direct]))
    for each in recipients:
        jid, encrypted = each.jid("jid"), each.find("enc")
        if jid is not None and not jid.device:
            server.later(_phone_answers(server, device, jid, stanza["id"]))
        target = server.device_at(jid) if jid else None
        if jid is None or target is None or encrypted is None or target is device:
            continue
        attributes = _from(device, jid) | {"id": stanza["id"], "type": stanza["type"] or "text",
                                           "t": str(int(time.time())), "notify": f"Phone {device.phone}"}  # fmt: skip
        if target.phone == device.phone:  # a copy for the sender's other devices says where it went
            attributes["recipient"] = stanza.attributes["to"]
            if to is not None:
                number = server.number_of(to)
                hidden = Jid(server.phone(number).lid_user, HIDDEN_USERS)
                also = ("pn", Jid(number, USERS)) if to.server == HIDDEN_USERS else ("lid", hidden)
                attributes[f"peer_recipient_{also[0]}"] = also[1]
        proof = node("device-identity", data=server.full_identity(device))
        if (left := server.rules.garbled.get(target.phone, 0)) > 0:
            server.rules.garbled[target.phone] = left - 1
            damaged = bytes(reversed(encrypted.data or b""))
            encrypted = Node(encrypted.tag, encrypted.attributes, [], damaged)
        await _post(target, Node("message", attributes, [encrypted, proof]))


async def _to_group(server: Server, group: Group, sender: Device, stanza: Node) -> None:
    """Give every device of the group the message for all, with the sender's key where it was sent one."""
    shared, participants = stanza.find("enc"), stanza.find("participants")
    keys: dict[Jid, Node] = {}
    for each in participants.every("to") if participants else ():
        jid, encrypted = each.jid("jid"), each.find("enc")
        target = server.device_at(jid) if jid else None
        if target is not None and encrypted is not None:
            keys[target.jid] = encrypted
    for target in [device for number in group.members for device in server.of(number)]:
        if target is sender:
            continue
        attributes: dict[str, str | Jid] = {
            "from": group.jid, **_participant(group, sender), "addressing_mode": "lid" if group.hidden else "pn",
            "id": stanza["id"], "type": stanza["type"] or "text", "t": str(int(time.time())),
            "notify": f"Phone {sender.phone}",
        }  # fmt: skip
        proof = node("device-identity", data=server.full_identity(sender))
        parts = [part for part in (keys.get(target.jid), shared) if part is not None]
        await _post(target, Node("message", attributes, [*parts, proof]))


def _participant(group: Group, device: Device) -> dict[str, str | Jid]:
    """Return how a group names one of its devices."""
    if group.hidden:
        return {"participant": device.lid, "participant_pn": device.jid}
    return {"participant": device.jid, "participant_lid": device.lid}


async def _phone_answers(server: Server, sender: Device, phone: Jid, identity: str) -> None:
    """Let a phone nobody plays confirm a message, where it was told to."""
    number = server.number_of(phone)
    found = server.rules.answering.get(number, server.rules.answering.get(""))
    if found is None or number == sender.phone:
        return
    read, delay = found
    await asyncio.sleep(delay)
    lid = Jid(server.phone(number).lid_user, HIDDEN_USERS)
    for kind in ("", "read") if read else ("",):
        attributes: dict[str, str | Jid] = {"from": phone, "id": identity, "t": str(int(time.time()))}
        attributes |= {"sender_pn": Jid(number, USERS)} if phone.server == HIDDEN_USERS else {"sender_lid": lid}
        if kind:
            attributes["type"] = kind
        # two receipts for one message: the second must not take the first one's place while it waits
        sender.waiting[f"receipt {kind}", identity] = receipt = Node("receipt", attributes)
        if sender.live:
            await _hand_over(sender, sender.live[-1], receipt)


async def _chatstate(server: Server, device: Device, stanza: Node) -> None:
    """Show the other side what a device does."""
    device.chat_states += [child.tag for child in stanza.children]
    to = stanza.jid("to")
    if to is not None and to.server != GROUPS:
        for target in server.of(server.number_of(to)):
            for connection in target.live:
                await connection.send(Node("chatstate", {"from": device.jid.account}, stanza.children))


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
    targets: list[Device | None]
    group = server.groups.get(to.user) if to.server == GROUPS else None
    if group is not None:
        writer = stanza.jid("participant")
        attributes |= {"from": group.jid, **_participant(group, device)}
        attributes = {name: value for name, value in attributes.items() if name != "sender_lid"}
        targets = [server.device_at(writer)] if writer else []
        if writer and not writer.device:
            targets = [*server.of(server.number_of(writer))]
    else:
        targets = [server.device_at(to)] if to.device else [*server.of(server.number_of(to))]
    for target in targets:
        if target is not None and target is not device:
            await _post(target, Node("receipt", dict(attributes), stanza.children))


def _from(sender: Device, addressed: Jid) -> dict[str, str | Jid]:
    """Return the sender's address, of the kind the recipient was addressed by."""
    if addressed.server == HIDDEN_USERS:
        return {"from": sender.lid, "sender_pn": Jid(sender.phone, USERS)}
    return {"from": sender.jid, "sender_lid": sender.lid.account}


async def _post(target: Device, stanza: Node) -> None:
    kind = stanza.tag if stanza.tag == "message" else f"receipt {stanza['type']} {stanza['participant']}".rstrip()
    target.waiting[kind, stanza["id"]] = stanza
    if target.live:
        await _hand_over(target, target.live[-1], stanza)


async def _hand_over(target: Device, connection: Connection, stanza: Node) -> None:
    if stanza.tag == "message":
        target.delivered[stanza["id"]] += 1
    await connection.send(stanza)


def _settle(device: Device, tag: str, identity: str) -> None:
    """Keep no longer what a device has acknowledged."""
    if tag == "message":
        if device.waiting.pop((tag, identity), None) is not None:
            device.confirmed[identity] += 1
        return
    for key in [key for key in device.waiting if key[0].startswith(tag) and key[1] == identity]:
        del device.waiting[key]  # an acknowledgement does not say which of the receipts it is for
