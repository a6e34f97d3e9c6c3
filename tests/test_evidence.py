"""The evidence of an incident: every name is known, and shown in the reader's language."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType

from django.utils.translation import override

from monitoring import actions, causes, diagnosis, health
from monitoring.evidence import NAMES, facts, named

#: What writes evidence: module -> its functions.
WRITERS: dict[ModuleType, tuple[str, ...]] = {
    causes: ("_jobs", "_programs", "_hosts", "_alerts", "_webhooks", "_fleet", "_sessions", "_evidence"),
    actions: ("restart_largest_host",), diagnosis: ("failures", "slowness"), health: ("_open",),
}  # fmt: skip
#: Names in them that are no evidence: a filter, what fills a sentence.
OTHERS = {"lease_expires_at__gt", "id"}


def names(module: ModuleType, function: str) -> Iterator[str]:
    """Yield the names in the dictionaries of a function."""
    for node in ast.walk(ast.parse(inspect.getsource(getattr(module, function)))):
        if isinstance(node, ast.Dict):
            yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))


def test_every_name_has_words() -> None:
    written = {name for module, functions in WRITERS.items() for one in functions for name in names(module, one)}
    assert written - OTHERS <= set(NAMES)
    assert set(NAMES) <= written


def test_evidence_of_any_shape_can_be_shown() -> None:
    codes = [{"code": 408, "failed": 3}]
    found = facts({"value": 1.23456, "codes": codes, "log": ["a", "b"], "none": None, "of": {"x": 1}})
    assert [(fact.name, fact.value, fact.lines, fact.rows) for fact in found] == [
        ("value", "1.235", (), ()), ("codes", "", (), (("408", "3"),)), ("log", "", ("a", "b"), ()),
        ("of x", "1", (), ()),
    ]  # fmt: skip


def test_it_is_told_in_the_readers_language_and_on_the_local_clock() -> None:
    evidence = {"state": "logged_out", "failures": 3, "since": "2020-01-02T03:04:05+00:00", "last_heartbeat": "never",
                "purpose": "cleanup", "codes": [{"code": 500, "what": "disconnected", "failed": 2}]}  # fmt: skip
    shown = {fact.name: fact.value or fact.rows for fact in facts(evidence)}
    assert shown["state"] == "logged out"
    assert shown["since"] == "2 Jan 2020 03:04"
    assert str(shown["purpose"]).startswith("ends what is stuck")
    assert shown["codes"] == (("500", "lost the connection", "2"),)
    with override("id"):
        assert [named(name) for name in ("failures", "by_nobody")] == ["kegagalan", "by nobody"]
        shown = {fact.name: fact.value or fact.rows for fact in facts(evidence)}
        assert shown["terakhir terlihat hidup"] == "belum pernah"
        assert shown["keadaan"] == "dikeluarkan"
