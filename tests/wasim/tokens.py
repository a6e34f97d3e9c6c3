"""The words of the protocol's dictionaries that occur in the flows this server knows."""

from __future__ import annotations

# fmt: off
SINGLE: dict[int, str] = {
    3: "s.whatsapp.net", 4: "type", 5: "participant", 6: "from", 7: "receipt", 8: "id",
    9: "notification", 10: "disappearing_mode", 11: "status", 12: "jid", 13: "broadcast",
    14: "user", 15: "devices", 17: "to", 18: "offline", 19: "message", 20: "result",
    21: "class", 22: "xmlns", 23: "duration", 24: "notify", 25: "iq", 26: "t", 27: "ack",
    28: "g.us", 29: "enc", 30: "urn:xmpp:whatsapp:push", 31: "presence", 33: "picture",
    34: "verified_name", 37: "contact", 38: "mediatype", 41: "get", 42: "read", 45: "0",
    46: "chatstate", 48: "unavailable", 50: "skmsg", 51: "verified_level", 52: "composing",
    55: "media", 56: "text", 58: "media_conn", 59: "device", 63: "item", 65: "count", 66: "w:profile:picture",
    67: "image", 68: "business", 69: "2", 74: "platform", 76: "success", 77: "msg",
    80: "key-index", 81: "v", 83: "pkmsg", 84: "version", 85: "1", 87: "w:p", 89: "video",
    90: "set", 92: "props", 97: "last", 100: "call", 105: "sticker", 106: "mode",
    107: "participants", 108: "value", 109: "query", 112: "code", 113: "list", 118: "lid", 119: "preview",
    121: "usync", 122: "w:stats", 125: "context", 129: "category", 132: "decrypt-fail", 135: "target",
    136: "available", 137: "name", 143: "index", 144: "tctoken", 148: "recipient", 149: "edit",
    151: "add", 154: "paused", 155: "true", 156: "identity", 157: "stream:error", 158: "key",
    160: "background", 161: "audio", 162: "3", 168: "error", 172: "in", 173: "registration",
    193: "out", 194: "w:m", 197: "token", 198: "inactive", 200: "document", 202: "played", 203: "encrypt",
    205: "hide", 210: "url", 212: "signature", 217: "trusted_contact", 226: "privacy", 227: "7",
    229: "interactive", 230: "device-identity",
}
"""Words by the one byte that stands for them."""

DOUBLE: dict[int, dict[int, str]] = {
    0: {
        0: "read-self", 1: "active", 11: "retry", 14: "conflict", 15: "false", 17: "replaced",
        24: "passive", 34: "4", 37: "sender", 45: "skey", 46: "reason", 68: "tokens",
        88: "delta", 91: "collection", 95: "phash", 110: "account_sync", 121: "5", 139: "stage",
        154: "timestamp", 156: "w:sync:app:state", 161: "6", 184: "urn:xmpp:whatsapp:dirty",
        203: "server_sync", 217: "blocklist", 223: "8", 227: "sync", 239: "abt",
    },
    1: {
        1: "dirty", 5: "9", 10: "full", 27: "peer_msg", 51: "w:g2",
        69: "urn:xmpp:whatsapp:account", 80: "ref", 120: "participating", 125: "meta",
        238: "pair-device", 248: "clean",
    },
    2: {
        60: "failure", 84: "biz", 120: "peer",
    },
    3: {
        20: "seen", 30: "keys",
    },
}
"""Words by dictionary, then by the byte after the dictionary's own."""
# fmt: on
