"""The server: pairs, logs in, answers queries, routes messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from . import protobuf
from .binary_xml import BinaryXmlError, Node, node
from .certificates import Tls, noise_chain
from .connection import Connection
from .device import Device
from .faults import Rules
from .groups import Group
from .jid import HIDDEN_USERS, SERVER, USERS, Jid
from .keys import KeyPair
from .media import Media
from .noise import NoiseError, ServerHandshake
from .phone import CodeEntry, Phone, Scan, shown
from .protobuf import Fields
from .queries import answer
from .routing import deliver_waiting, route

log = logging.getLogger(__name__)

_REFS = 6

_PASSKEY = {"challenge": "AAAA", "timeout": 60000, "rpId": "whatsapp.com", "allowCredentials": [],
            "userVerification": "required", "extensions": {}}  # fmt: skip
UNABLE = {
    "multidevice": node("ib", {"from": SERVER}, node("downgrade_webclient")),
    "passkey": node("notification", {"from": SERVER, "type": "passkey_prologue_request", "id": "passkey-1", "t": 0},
                    node("passkey_request_options", data=json.dumps(_PASSKEY).encode())),
}  # fmt: skip
"""What the client is told when a phone scanned its code and still cannot link it, by the phone's defect."""


class Pending:
    """A client that shows a code."""

    def __init__(self, connection: Connection, refs: list[str], noise: bytes) -> None:
        self.connection, self.refs, self.noise = connection, refs, noise
        self.since = time.time()
        self.phone = ""  # asked for a code for this number
        self.wrapped_key = b""
        self.entry: CodeEntry | None = None
        self.device: Device | None = None  # signed by the phone, to be confirmed by the client
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def settle(self, error: str) -> None:
        """Tell the phone how it went ("" is well)."""
        if not self.outcome.done():
            self.outcome.set_result(error)


class Server:
    """All state, on one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "state.json"
        saved: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.root = _key(saved.get("root"))
        self._static = _key(saved.get("static"))
        self._chain = noise_chain(self.root, self._static)
        self.tls = Tls.load(folder)
        self.rules = Rules()
        self.phones: dict[str, Phone] = {p["number"]: Phone.load(p) for p in saved.get("phones", [])}
        devices = map(Device.load, saved.get("devices", []))
        self.devices: dict[Jid, Device] = {device.jid: device for device in devices}
        self.groups: dict[str, Group] = {}
        self.media = Media()
        self.pending: list[Pending] = []
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.save()

    async def start(self) -> int:
        """Listen on loopback; return the port."""
        self._server: WebSocketServer = await serve(
            self._serve, "127.0.0.1", 0, ssl=self.tls.context, compression=None, ping_interval=None, max_size=None,
            close_timeout=0.5,
        )  # fmt: skip
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def close(self) -> None:
        """Stop, and cut everyone off."""
        for connection in list(self.connections):
            connection.abort()
        self.media.close()
        self._server.close()
        await self._server.wait_closed()

    def save(self) -> None:
        """Write down who is known."""
        state = {
            "root": self.root.private.hex(), "static": self._static.private.hex(),
            "phones": [phone.saved() for phone in self.phones.values()],
            "devices": [device.saved() for device in self.devices.values()],
        }  # fmt: skip
        draft = self._file.with_suffix(".part")
        draft.write_text(json.dumps(state))
        draft.rename(self._file)

    def phone(self, number: str) -> Phone:
        """Return the phone with this number; it is new when nobody asked before."""
        if number not in self.phones:
            self.phones[number] = Phone(number)
        return self.phones[number]

    def of(self, number: str) -> list[Device]:
        """Return the devices linked to a number ("" is all)."""
        return [device for device in self.devices.values() if number in ("", device.phone)]

    def number_of(self, jid: Jid) -> str:
        """Return the number behind an address of either kind."""
        if jid.server != HIDDEN_USERS:
            return jid.user
        return next((p.number for p in self.phones.values() if p.lid_user == jid.user), shown(jid.user))

    def device_at(self, jid: Jid) -> Device | None:
        """Return the device with this address of either kind, if it is known."""
        return self.devices.get(Jid(self.number_of(jid), USERS, jid.device))

    def full_identity(self, device: Device) -> bytes:
        """Return the device's signed identity with the account's key put back, as others get it."""
        fields, account = protobuf.decode(device.account_identity), self.phone(device.phone).identity.public
        return protobuf.encode([(1, fields.data(1)), (2, account), (3, fields.data(3)), (4, fields.data(4))])

    async def set_picture(self, number: str, url: str) -> None:
        """Give a phone a profile picture, or take it ("")."""
        self.phone(number).picture = url

    def forget(self, device: Device) -> None:
        """Unlink a device."""
        self.devices.pop(device.jid, None)
        self.save()

    def register(self, phone: Phone, identity: bytes, noise: bytes) -> Device:
        """Return a new device of this phone, not yet known to log-ins."""
        phone.devices += 1
        return Device(phone.number, phone.devices, phone.lid_user, identity, b"", noise)

    # -- connections

    async def _serve(self, socket: ServerConnection) -> None:
        connection = Connection(socket)
        self.connections.add(connection)
        try:
            static, payload = await connection.shake_hands(ServerHandshake(self._static, self._chain))
            connection.delay = self.rules.delay
            if payload.message(19) is not None:
                await self._pair(connection, static)
            else:
                await self._log_in(connection, static, payload)
        except (NoiseError, BinaryXmlError, ConnectionClosed, OSError) as error:
            log.debug("a connection ended: %s", error)
        finally:
            self.connections.discard(connection)
            if connection.device is not None:
                connection.device.went(connection)
            with contextlib.suppress(ConnectionClosed, OSError):
                await connection.close()

    async def _log_in(self, connection: Connection, static: bytes, payload: Fields) -> None:
        jid = Jid(str(payload.number(1) or ""), USERS, payload.number(18) or 0)
        device = self.devices.get(jid)
        if device is None or device.noise not in (b"", static):
            await connection.fail(401)
            return
        device.tried()
        if (refusal := self.rules.refusal(jid.user)) is not None:
            await connection.fail(refusal.code, **refusal.attributes)
            return
        older = list(device.live)
        connection.device = device
        device.came(connection)  # before the older one goes: two at once have to show in the count
        for each in older:
            device.replaced += 1
            device.went(each)
            self.later(each.stream_error(conflict="replaced"))
        connection.silent = self.rules.holds(self.rules.silenced, jid.user)
        await connection.send(node("success", {"t": int(time.time()), "lid": device.lid, "location": "sim"}))
        await connection.send(node("ib", {"from": SERVER}, node("offline", {"count": len(device.waiting)})))
        await deliver_waiting(device, connection)
        async for stanza in connection.stanzas():
            connection.delay = self.rules.delay
            connection.silent = self.rules.holds(self.rules.silenced, jid.user)
            if stanza.tag == "iq":
                for reply in answer(self, device, stanza):
                    await connection.send(reply)
                # "passive" is the client's last word of a log-in; from here on it would be connected
                if stanza["xmlns"] == "passive" and self.rules.holds(self.rules.conflicts, jid.user):
                    device.replaced += 1
                    await connection.stream_error(conflict="replaced")
            else:
                await route(self, device, connection, stanza)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that may wait for another client, without waiting for it here."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- pairing

    async def _pair(self, connection: Connection, static: bytes) -> None:
        if self.rules.pairing_refusal is not None:
            await connection.fail(self.rules.pairing_refusal)
            return
        pending = Pending(connection, [f"2@{secrets.token_urlsafe(60)}" for _ in range(_REFS)], static)
        self.pending.append(pending)
        refs = [node("ref", data=ref.encode()) for ref in pending.refs]
        await connection.send(
            node("iq", {"from": SERVER, "type": "set", "id": "pair-1", "xmlns": "md"}, node("pair-device", {}, *refs))
        )
        try:
            async for stanza in connection.stanzas():
                if await self._pairing_step(pending, stanza):
                    return
        finally:
            self.pending.remove(pending)
            pending.settle("the client went away")

    async def _pairing_step(self, pending: Pending, stanza: Node) -> bool:
        """Handle one stanza of a client that is being paired; return whether that was the last."""
        if stanza["type"] == "error":
            error = stanza.find("error")
            pending.settle(error["text"] if error else "refused")
            return True
        if sign := stanza.find("pair-device-sign"):
            device = pending.device
            assert device is not None
            device.account_identity = sign.bytes_of("device-identity")
            self.devices[device.jid] = device
            self.save()
            await pending.connection.send(node("stream:error", {"code": "515"}))
            await pending.connection.close()
            pending.settle("")
            return True
        if stanza.tag != "iq" or stanza["type"] == "result":
            return False
        if (link := stanza.find("link_code_companion_reg")) is None:
            await pending.connection.send(node("iq", {"from": SERVER, "type": "result", "id": stanza["id"]}))
        elif self.rules.refuse_codes:
            error = node("error", {"code": 429, "text": "rate-overlimit"})
            await pending.connection.send(node("iq", {"from": SERVER, "type": "error", "id": stanza["id"]}, error))
        elif link["stage"] == "companion_hello":
            jid = link.jid("jid")
            pending.phone = jid.user if jid else ""
            pending.wrapped_key = link.bytes_of("link_code_pairing_wrapped_companion_ephemeral_pub")
            ref = node("link_code_companion_reg", {"stage": "companion_hello"},
                       node("link_code_pairing_ref", data=pending.refs[0].encode()))  # fmt: skip
            await pending.connection.send(node("iq", {"from": SERVER, "type": "result", "id": stanza["id"]}, ref))
        elif link["stage"] == "companion_finish":
            await pending.connection.send(node("iq", {"from": SERVER, "type": "result", "id": stanza["id"]}))
            await self._code_entered(pending, link)
        return False

    async def scan(self, number: str, text: str, wrong: str = "") -> str:
        """Let a phone scan a QR text; return "" or why it was not linked.

        `wrong`: "" is a sound phone; "hmac" and "signature" sign badly; "multidevice" knows no linked devices;
        "passkey" wants a passkey first. Raises ValueError when nobody shows that code (any more).
        """
        scan = Scan.parse(text)
        pending = next((p for p in self.pending if scan.ref in p.refs), None)
        if pending is None:
            raise ValueError("nobody shows this code any more")
        if wrong in UNABLE:
            await pending.connection.send(UNABLE[wrong])
            return wrong
        await self._sign(pending, self.phone(number), scan, wrong)
        return await asyncio.wait_for(asyncio.shield(pending.outcome), 30)

    async def enter_code(self, number: str, code: str) -> str:
        """Let a phone take an 8-character code; return "" or what went wrong. Raises ValueError when nobody asked."""
        pending = next((p for p in self.pending if p.phone == number), None)
        if pending is None:
            raise ValueError("nobody asked for a code for this number")
        entry = await asyncio.to_thread(CodeEntry, self.phone(number), code, pending.wrapped_key)
        pending.entry = entry
        wrapped = await asyncio.to_thread(entry.hello)
        content = node(
            "link_code_companion_reg", {"stage": "primary_hello"},
            node("link_code_pairing_ref", data=pending.refs[0].encode()),
            node("link_code_pairing_wrapped_primary_ephemeral_pub", data=wrapped),
            node("primary_identity_pub", data=self.phone(number).identity.public),
        )  # fmt: skip
        await pending.connection.send(
            node("notification", {"from": SERVER, "type": "link_code_companion_reg", "id": "code-1",
                                  "t": int(time.time())}, content)
        )  # fmt: skip
        return await asyncio.wait_for(asyncio.shield(pending.outcome), 30)

    async def _code_entered(self, pending: Pending, link: Node) -> None:
        assert pending.entry is not None
        try:
            scan = pending.entry.finish(pending.refs[0], link.bytes_of("link_code_pairing_wrapped_key_bundle"))
        except InvalidTag:
            pending.settle("the code was wrong")
            return
        await self._sign(pending, self.phone(pending.phone), scan, "")

    async def _sign(self, pending: Pending, phone: Phone, scan: Scan, wrong: str) -> None:
        device = pending.device = self.register(phone, scan.identity, pending.noise)
        success = node(
            "pair-success", {},
            node("device-identity", data=phone.sign_device(scan, wrong)),
            node("device", {"jid": device.jid, "lid": device.lid}),
            node("platform", {"name": "android"}),
        )  # fmt: skip
        await pending.connection.send(
            node("iq", {"from": SERVER, "type": "set", "id": "pair-2", "t": int(time.time())}, success)
        )


def _key(saved: str | None) -> KeyPair:
    return KeyPair.from_private(bytes.fromhex(saved)) if saved else KeyPair.from_private(os.urandom(32))
