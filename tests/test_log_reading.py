"""All logs read as one, and errors grouped by cause."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from accounts.models import Account
from waserver.log_reading import Entry, age, follow, grouped, parsed, read

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def line(seconds: float, message: str, level: str = "info", at: datetime = NOW, **fields: Any) -> str:
    moment = at + timedelta(seconds=seconds)
    return json.dumps({"at": moment.isoformat(), "level": level, "logger": "x", "message": message, **fields})


def entries(*lines: str, name: str = "host-1") -> list[Entry]:
    return list(parsed([f"{one}\n" for one in lines], name, NOW))


def write(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    file.write_text("".join(f"{one}\n" for one in lines))
    return file


def test_a_crash_of_go_or_python_is_one_error_at_the_time_of_the_line_before() -> None:
    go = entries(line(1, "before"), "fatal error: concurrent map writes", "", "goroutine 7 [running]:", "\tx.go:1",
                 line(9, "after"))  # fmt: skip
    assert [(one.level, one.message) for one in go] == [
        ("info", "before"), ("error", "fatal error: concurrent map writes"), ("info", "after")]  # fmt: skip
    assert go[1].at == NOW + timedelta(seconds=1)
    assert "goroutine 7" in go[1].fields["traceback"]
    python = entries("Traceback (most recent call last):", '  File "x.py", line 1', "OSError: disk full")
    assert [(one.level, one.message) for one in python] == [("error", "OSError: disk full")]
    assert [one.level for one in entries("CommandError: A session host named host-1 already runs.")] == ["error"]


def test_half_a_line_and_text_are_kept_and_are_no_error() -> None:
    found = entries('{"at": "2026-05-04T12:00:00+00:00", "level": "err', "some print")
    assert [one.level for one in found] == ["info"]
    assert "some print" in found[0].fields["traceback"]


def test_supervisord_speaks_in_its_own_way() -> None:
    found = entries("2026-05-04 12:00:00,123 WARN exited: web (terminated by SIGKILL; not expected)",
                    "2026-05-04 12:00:00,124 CRIT Supervisor is running as root.  Privileges ...",
                    "2026-05-04 12:00:00,124 CRIT could not write pidfile", name="supervisord")  # fmt: skip
    assert [one.level for one in found] == ["warning", "info", "critical"]


def test_errors_are_grouped_whatever_numbers_stand_in_them() -> None:
    same = [line(n, f"Session {n} failed", "error", cause="Session %d failed", session=n) for n in range(3)]
    other = [line(9, "no", "error", cause="A turn of the host failed", error=f"OSError: [Errno 28] at 0x7f{n}")
             for n in range(2)]  # fmt: skip
    groups = grouped(entries(*same, line(5, "fine"), *other))
    assert [(group.count, group.sessions) for group in groups] == [(3, {0, 1, 2}), (2, set())]
    assert groups[1].cause == "A turn of the host failed — OSError: [Errno #] at #"
    assert groups[0].first == NOW
    assert groups[0].last is not None
    assert groups[0].last.at == NOW + timedelta(seconds=2)


def test_files_are_read_as_one_rotated_and_compressed_ones_too(tmp_path: Path) -> None:
    write(tmp_path, "web.log", line(3, "third"))
    write(tmp_path, "host-1.log.1", line(1, "first"))
    with gzip.open(tmp_path / "host-1.log.2.gz", "wt") as packed:
        packed.write(line(-9000, "long ago") + "\n" + line(2, "second") + "\n")
    write(tmp_path, "web-output.log", "GET / 200")
    old = write(tmp_path, "guard.log", line(-9000, "older"))
    os.utime(old, (1, 1))
    found = read(tmp_path, NOW)
    assert [(one.program, one.message) for one in found] == [
        ("host-1", "first"), ("host-1", "second"), ("web", "third")]  # fmt: skip


def test_following_gives_what_is_new_also_after_a_rotation(tmp_path: Path) -> None:
    file = write(tmp_path, "web.log", line(1, "old"))
    news = follow(tmp_path)
    assert next(news) == []
    with file.open("a") as more:
        more.write(line(2, "new") + "\n" + '{"at": "20')
    assert [one.message for one in next(news)] == ["new"]
    with file.open("a") as more:
        more.write('26-05-04T12:00:00+00:00", "level": "info", "message": "whole"}\n')
    assert [one.message for one in next(news)] == ["whole"]
    shutil.move(file, tmp_path / "web.log.1")
    write(tmp_path, "web.log", line(3, "x"))
    assert [one.message for one in next(news)] == ["x"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("3d", 259_200), ("1w", 604_800)]
)
def test_an_age_is_read(text: str, seconds: int) -> None:
    assert age(text).total_seconds() == seconds


@pytest.mark.django_db
def test_the_command_filters_by_account_and_says_what_it_did_not_understand(tmp_path: Path, settings: Any) -> None:
    settings.LOG_DIR = tmp_path
    session = Account.objects.create(label="Front office", phone="6281200000001").session
    now = timezone.now()
    write(tmp_path, "host-1.log", line(-3, "Session started", at=now, session=session.pk),
          line(-2, "of another", at=now, session=session.pk + 1),
          line(-1, "Front office says no", "error", at=now))  # fmt: skip

    def printed(*arguments: str) -> str:
        out = StringIO()
        call_command("server", "logs", *arguments, stdout=out)
        return out.getvalue()

    assert "of another" in printed()
    mine = printed("--account", "Front office")
    assert "Session started" in mine
    assert "Front office says no" in mine
    assert "of another" not in mine
    assert "    1 x Front office says no" in printed("--errors")
    assert json.loads(printed("--errors", "--json"))[0]["programs"] == ["host-1"]
    assert "No errors." in printed("--errors", "--program", "web")
    with pytest.raises(CommandError, match="is not a time: write 90s"):
        printed("--since", "yesterday")
    with pytest.raises(CommandError, match="There is no session “nobody”"):
        printed("--account", "nobody")
