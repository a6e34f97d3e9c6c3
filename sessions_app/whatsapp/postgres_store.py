"""Device stores in PostgreSQL: one schema per account in the database of DEVICE_STORE_URL.

The library takes the first device of a store, so each account needs one of its own. Two traps of the library's own
set-up (go.mau.fi/util dbutil, measured with neonize 0.5.2):
- It asks information_schema whether its version table exists, in whatever schema. So beside a first store it never
  makes that table in a second one, and fails; we make it, empty, and it does the rest.
- Every start of a client opens a pool that is never closed: two idle connections each time. So sessions ask the server
  to cut what is idle (idle_session_timeout, PostgreSQL 14 or newer); the library notices and opens another.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from sessions_app.whatsapp import ratchet
from sessions_app.whatsapp.client import WhatsAppError
from sessions_app.whatsapp.ratchet import APART, FORGOTTEN, KEPT

if TYPE_CHECKING:
    import psycopg

#: How a session names such a store: this, and the schema.
PREFIX = "postgres:"
#: Seconds after which the server cuts an idle connection of the library.
IDLE = 300
#: Names of schemas: in use, and in quarantine. The first number is the time it was made or put there, in hex seconds.
_STORE = re.compile(r"wa_([0-9a-f]{8})_\d+_[0-9a-f]{6}")
_OLD = re.compile(r"old_([0-9a-f]{8})_wa_\w+")
#: Parameters of the library's driver that the one of Python does not know.
_FOR_LIBRARY = ("search_path", "idle_session_timeout")
_PATIENCE = 5
#: The advisory lock of `kept`: "waserver", as a number of 64 bits.
_KEPT = int.from_bytes(b"waserver")
#: See device_store.safeguard.
_HOLD_COUNTERS = """
BEGIN;
CREATE FUNCTION SCHEMA.waserver_hold_counter() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was jsonb := convert_from(OLD.session, 'UTF8')::jsonb;
    becomes jsonb := convert_from(NEW.session, 'UTF8')::jsonb;
    sender text[] := '{SessionState,SenderChain}';
    key text[] := sender || '{SenderRatchetKeyPublic}'::text[];
    counter text[] := sender || '{ChainKey,Index}'::text[];
BEGIN
    IF was #>> key = becomes #>> key AND (was #>> counter)::bigint > (becomes #>> counter)::bigint THEN
        NEW.session := convert_to(jsonb_set(becomes, sender, was #> sender)::text, 'UTF8');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER waserver_hold_counter BEFORE UPDATE OF session ON SCHEMA.whatsmeow_sessions
    FOR EACH ROW EXECUTE FUNCTION SCHEMA.waserver_hold_counter();
COMMIT;
"""
_HOLD_STATES = """
BEGIN;
CREATE FUNCTION SCHEMA.waserver_hold_states() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was jsonb := convert_from(OLD.session, 'UTF8')::jsonb;
    becomes jsonb := convert_from(NEW.session, 'UTF8')::jsonb;
    base text[] := '{SessionState,SenderBaseKey}';
    others jsonb;
BEGIN
    IF was #>> base <> becomes #>> base THEN
        SELECT coalesce(jsonb_agg(state ORDER BY place), '[]') INTO others FROM (
            SELECT state, place FROM (
                SELECT DISTINCT ON (state ->> 'SenderBaseKey') state, place FROM (
                    SELECT 0 AS place, was -> 'SessionState' AS state
                    UNION ALL SELECT number, value FROM jsonb_path_query(was, '$.PreviousStates[*]')
                        WITH ORDINALITY AS previous (value, number)
                    UNION ALL SELECT 1000 + number, value FROM jsonb_path_query(becomes, '$.PreviousStates[*]')
                        WITH ORDINALITY AS previous (value, number)
                ) states WHERE state ->> 'SenderBaseKey' NOT IN ('', becomes #>> base)
                ORDER BY state ->> 'SenderBaseKey', place
            ) once ORDER BY place LIMIT 40
        ) kept;
        NEW.session := convert_to(jsonb_set(becomes, '{PreviousStates}', others)::text, 'UTF8');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER waserver_hold_states BEFORE UPDATE OF session ON SCHEMA.whatsmeow_sessions
    FOR EACH ROW EXECUTE FUNCTION SCHEMA.waserver_hold_states();
COMMIT;
"""
_KEEP = """
BEGIN;
CREATE TABLE SCHEMA.waserver_kept (
    id BIGSERIAL PRIMARY KEY, what TEXT NOT NULL, who TEXT NOT NULL, was BYTEA NOT NULL, since BIGINT NOT NULL
);
CREATE INDEX waserver_kept_who ON SCHEMA.waserver_kept (what, who, id);
CREATE INDEX waserver_kept_since ON SCHEMA.waserver_kept (since);
CREATE FUNCTION SCHEMA.waserver_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_s bigint := extract(epoch FROM clock_timestamp());
    kind text := TG_ARGV[0];
    subject text;
    earlier bytea;
    sender text[] := '{SessionState,SenderChain,SenderRatchetKeyPublic}';
    begins boolean := false;
BEGIN
    IF kind = 'pre_key' THEN
        subject := OLD.key_id::text; earlier := OLD.key; begins := true;
    ELSIF kind = 'sender_key' THEN
        subject := OLD.chat_id || ' ' || OLD.sender_id; earlier := OLD.sender_key;
    ELSIF TG_OP = 'INSERT' THEN
        subject := NEW.their_id; earlier := ''; begins := true;
    ELSE
        subject := OLD.their_id; earlier := OLD.session;
        begins := convert_from(OLD.session, 'UTF8')::jsonb #>> sender
            IS DISTINCT FROM convert_from(NEW.session, 'UTF8')::jsonb #>> sender;
    END IF;
    IF begins OR NOT EXISTS (SELECT 1 FROM SCHEMA.waserver_kept
                             WHERE what = kind AND who = subject AND since > now_s - APART) THEN
        INSERT INTO SCHEMA.waserver_kept (what, who, was, since) VALUES (kind, subject, earlier, now_s);
        DELETE FROM SCHEMA.waserver_kept WHERE what = kind AND who = subject AND id <= (
            SELECT id FROM SCHEMA.waserver_kept WHERE what = kind AND who = subject ORDER BY id DESC LIMIT 1 OFFSET KEPT
        );
        DELETE FROM SCHEMA.waserver_kept WHERE since < now_s - FORGOTTEN;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER waserver_keep AFTER INSERT OR UPDATE OF session ON SCHEMA.whatsmeow_sessions
    FOR EACH ROW EXECUTE FUNCTION SCHEMA.waserver_keep('session');
CREATE TRIGGER waserver_keep AFTER UPDATE OF sender_key ON SCHEMA.whatsmeow_sender_keys
    FOR EACH ROW EXECUTE FUNCTION SCHEMA.waserver_keep('sender_key');
CREATE TRIGGER waserver_keep AFTER DELETE ON SCHEMA.whatsmeow_pre_keys
    FOR EACH ROW EXECUTE FUNCTION SCHEMA.waserver_keep('pre_key');
COMMIT;
""".replace("APART", str(APART)).replace("KEPT", str(KEPT)).replace("FORGOTTEN", str(FORGOTTEN))


class Damaged(WhatsAppError):
    """The server answers, and cannot read what is inside a store."""


def fresh_name(session_id: int) -> str:
    """Return the name of a store nobody has had before."""
    return f"{PREFIX}wa_{int(time.time()):08x}_{session_id}_{uuid.uuid4().hex[:6]}"


def address(url: str, name: str) -> str:
    """Return what the library opens: DEVICE_STORE_URL, led to the schema of `name`. What it says itself is kept."""
    parts = urlsplit(url)
    ours = {"application_name": "waserver", "idle_session_timeout": str(IDLE * 1000)}
    query = {**ours, **dict(parse_qsl(parts.query)), "search_path": name.removeprefix(PREFIX)}
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def create(store: str, *, empty: bool = False) -> None:
    """Make the schema of an address; `empty`, without what the library needs to begin. Raises WhatsAppError."""
    schema = _schema(store)
    with _connected(store) as database:
        database.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        if not empty:
            database.execute(
                f'CREATE TABLE IF NOT EXISTS "{schema}".whatsmeow_version (version INTEGER, compat INTEGER)'
            )


def safeguard(store: str) -> None:
    """Do what device_store.safeguard says. Raises WhatsAppError."""
    schema = _schema(store)
    with _connected(store) as database:
        rows = database.execute("SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
                                "WHERE nspname = %s", [schema]).fetchall()  # fmt: skip
        there = {row[0] for row in rows}
        for name, make in (("waserver_hold_counter", _HOLD_COUNTERS), ("waserver_hold_states", _HOLD_STATES),
                           ("waserver_keep", _KEEP)):  # fmt: skip
            if name not in there:
                database.execute(make.replace("SCHEMA", f'"{schema}"').encode())

        def execute(words: str, values: Sequence[Any]) -> Any:
            return database.execute(words.encode(), values)

        with database.transaction():
            ratchet.read_again(execute, f'"{schema}".', "%s")


def exists(store: str) -> bool:
    """Return whether the schema is there; True when that cannot be told, so that nothing is called missing."""
    try:
        with _connected(store) as database:
            return _has(database, _schema(store), None)
    except WhatsAppError:
        return True


def holds_device(store: str) -> bool:
    """Return whether a paired device's keys are inside; True when that cannot be told, so that nothing is lost."""
    schema = _schema(store)
    try:
        with _connected(store) as database:
            if not _has(database, schema, "whatsmeow_device"):
                return False
            return database.execute(f'SELECT 1 FROM "{schema}".whatsmeow_device').fetchone() is not None  # noqa: S608
    except WhatsAppError:
        return True


def devices(store: str) -> int | None:
    """Return how many devices' keys are inside, None without a schema, having read every row: damage shows only then.

    Raises Damaged, or WhatsAppError when the server does not answer.
    """
    schema = _schema(store)
    with _connected(store) as database:
        if not _has(database, schema, None):
            return None
        counts: dict[object, Any] = {}
        for (table,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]).fetchall():
            every_row = f'SELECT count(*), sum(length(one::text)) FROM "{schema}"."{table}" AS one'  # noqa: S608
            counts[table] = database.execute(every_row.encode()).fetchall()[0][0]
        return int(counts.get("whatsmeow_device", 0))


def delete(store: str) -> None:
    """Drop the schema, unless the server does not answer: then it is left to the clean-up."""
    with contextlib.suppress(WhatsAppError), _connected(store) as database:
        database.execute(f'DROP SCHEMA IF EXISTS "{_schema(store)}" CASCADE')


def names(url: str) -> dict[str, float]:
    """Return the stores there are, and when each was made (seconds since 1970). Raises WhatsAppError."""
    return {f"{PREFIX}{schema}": int(match[1], 16) for schema in _schemas(url) if (match := _STORE.fullmatch(schema))}


@contextlib.contextmanager
def kept(url: str) -> Iterator[None]:
    """Have nobody put a store away, which is there before the row that refers to it; one at a time.

    Raises WhatsAppError.
    """
    with _connected(url) as database:
        database.execute("SELECT pg_advisory_lock(%s)", [_KEPT])
        try:
            yield
        finally:
            database.close()  # what was done under it stands, whether or not the server still answers


@contextlib.contextmanager
def settled(url: str) -> Iterator[bool]:
    """Tell whether a store without a row may be put away now; while the context lasts nobody brings one."""
    with _connected(url) as database:
        row = database.execute("SELECT pg_try_advisory_lock(%s)", [_KEPT]).fetchone()
        yield row == (True,)


def quarantine(url: str, name: str, now: float) -> None:
    """Put a store away, from where it can be taken back by renaming its schema. Raises WhatsAppError."""
    schema = name.removeprefix(PREFIX)
    with _connected(url) as database:
        database.execute(f'ALTER SCHEMA "{schema}" RENAME TO "old_{int(now):08x}_{schema}"')


def empty_quarantine(url: str, before: float) -> int:
    """Drop what was put away before then; return how many. Raises WhatsAppError."""
    old = [name for name in _schemas(url) if (match := _OLD.fullmatch(name)) and int(match[1], 16) < before]
    for name in old:
        with _connected(url) as database:
            database.execute(f'DROP SCHEMA "{name}" CASCADE')
    return len(old)


def parameters(url: str) -> dict[str, str]:
    """Return an address as PostgreSQL's own programs take it, by parameter. Raises WhatsAppError."""
    from psycopg import ProgrammingError  # only where stores are in PostgreSQL
    from psycopg.conninfo import conninfo_to_dict

    try:
        return {name: str(value) for name, value in conninfo_to_dict(plain(url)).items()}
    except ProgrammingError as error:
        raise WhatsAppError(f"DEVICE_STORE_URL cannot be used: {error}") from None


def plain(url: str) -> str:
    """Return an address without what only the library's driver understands."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in _FOR_LIBRARY]
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def _schema(store: str) -> str:
    schema = dict(parse_qsl(urlsplit(store).query)).get("search_path", "public")
    if not re.fullmatch(r"\w+", schema):
        raise WhatsAppError(f"{schema} cannot be the name of a device store.")
    return schema


def _schemas(url: str) -> list[str]:
    with _connected(url) as database:
        return [str(row[0]) for row in database.execute("SELECT nspname FROM pg_namespace").fetchall()]


def _has(database: psycopg.Connection[tuple[object, ...]], schema: str, table: str | None) -> bool:
    if table is None:
        found = database.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
    else:
        found = database.execute("SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = %s", [schema, table])
    return found.fetchone() is not None


@contextlib.contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    try:
        import psycopg  # only where stores are in PostgreSQL
    except ImportError:
        raise WhatsAppError("Device stores in PostgreSQL need psycopg: `pip install -r requirements-postgres.txt`."
                            ) from None  # fmt: skip
    try:
        with psycopg.connect(plain(url), autocommit=True, connect_timeout=_PATIENCE) as database:
            yield database
    except psycopg.Error as error:
        words = str(error).strip().splitlines() or ["no answer"]
        # XX: what it read contradicts itself; 58: a file is not there, or the disk does not give it.
        if (error.sqlstate or "")[:2] in ("XX", "58"):
            raise Damaged(f"PostgreSQL cannot read the device store ({words[0]}): see its log.") from None
        raise WhatsAppError(f"The PostgreSQL of the device stores does not answer ({words[0]}): check "
                            "DEVICE_STORE_URL.") from None  # fmt: skip
