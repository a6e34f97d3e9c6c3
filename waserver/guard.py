"""The guard: `python -m waserver.guard CONFIG`, an event listener of supervisord. Without Django, so that it is small.

It writes down every start and end (var/run/programs.json, and from there rows by `manage.py server record`), gives a
program in a crash loop a rest, and, when supervisord itself is killed, ends what that left running and starts it again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from waserver import processes
from waserver.log_lines import Lines
from waserver.program_record import Record
from waserver.rpc import GUARD, Supervisor, SupervisorError

_log = logging.getLogger("waserver.guard")

BASE = Path(__file__).resolve().parent.parent
#: supervisord itself, among the programs.
SUPERVISORD = "supervisord"
#: Seconds: between looks without an event; until several changes are recorded as one; between attempts to record.
_TICK, _CALM, _RECORD_AGAIN = 0.5, 1.0, 20.0
_RECORD_PATIENCE = 90.0
#: Seconds what a killed supervisord left running has to end: nobody watches over it meanwhile.
_HASTE = 2.0
_ENDED = re.compile(r"(?:exited|stopped): ([\w-]+) \((.+?)(?:; (?:not )?expected)?\)$", re.M)
_STATE = "PROCESS_STATE_"


class Guard:
    """Reads events from `stdin`, answers on stdout."""

    def __init__(self, config: Path, server_url: str, foreground: bool) -> None:
        self._config, self._url, self._foreground = config, server_url, foreground
        self._run_folder = config.parent
        self._supervisor = Supervisor(server_url.removeprefix("unix://"))
        self._records = load(self._run_folder)
        self._resting: set[str] = set()  # to be stopped because of a crash loop
        self._stopping = False
        self._changed_at: float | None = None  # not yet recorded
        self._recorder: subprocess.Popen[bytes] | None = None
        self._recorder_began = self._next_record = 0.0

    def run(self) -> None:
        """Serve until supervisord ends."""
        with suppress(BrokenPipeError):
            self._serve()
        if not self._stopping:
            self._orphaned()

    def _serve(self) -> None:
        self._sync()
        buffer = b""
        _answer("READY\n")
        while True:
            if select.select([0], [], [], _TICK)[0]:
                chunk = os.read(0, 65536)
                if not chunk:
                    return
                buffer = self._take(buffer + chunk)
            self._tick(time.time())

    # -- events

    def _take(self, buffer: bytes) -> bytes:
        """Handle the whole events in `buffer` and return the rest."""
        while b"\n" in buffer:
            line, _, rest = buffer.partition(b"\n")
            header = _tokens(line.decode())
            size = int(header["len"])
            if len(rest) < size:
                break
            payload, buffer = rest[:size].decode(), rest[size:]
            self._event(header["eventname"], _tokens(payload.partition("\n")[0]))
            _answer("RESULT 2\nOKREADY\n")
        return buffer

    def _event(self, name: str, payload: Mapping[str, str]) -> None:
        if name == "SUPERVISOR_STATE_CHANGE_STOPPING":
            self._stopping = True
        program = payload.get("processname", "")
        if not name.startswith(_STATE) or program in ("", GUARD):
            return
        state, now = name.removeprefix(_STATE).lower(), time.time()
        record = self._records.setdefault(program, Record())
        if state in ("exited", "backoff", "stopped"):
            # What a killed program has started (workers, a pairing) is of no use, and may do its work a second time.
            processes.kill_group(int(payload.get("pid") or record.pid))
        record.saw(state, now, int(payload.get("pid") or 0), payload.get("expected") == "1")
        if state in ("exited", "backoff") and record.in_crash_loop(now):
            self._resting.add(program)
        if state == "stopped" and program in self._resting:
            self._resting.discard(program)
            record.give_rest(now)
        if record.retry_at is not None:
            _log.error("%s ended %d times within minutes: it is left alone for %.0f s", program, len(record.crashes),
                       record.retry_at - now, extra={"program": program})  # fmt: skip
        else:
            _log.log(logging.WARNING if state in ("exited", "backoff") else logging.INFO, "%s: %s", program, state,
                     extra={"program": program})  # fmt: skip
        self._changed(now)

    def _sync(self) -> None:
        """Take in how things are. What happened while no guard ran, supervisord has kept and tells afterwards."""
        with suppress(SupervisorError):
            for info in self._supervisor.programs():
                record = self._records.setdefault(info.name, Record())
                if record.retry_at is None:
                    record.state, record.pid = info.state, info.pid
        self._changed(time.time())

    # -- between events

    def _tick(self, now: float) -> None:
        if any(record.state == "starting" and not record.pid for record in self._records.values()):
            self._sync()  # supervisord tells the process id only once it has stayed up
        for program, record in self._records.items():
            if program in self._resting:
                with suppress(SupervisorError):  # between two starts there is nothing to stop: the next tick will
                    self._supervisor.stop(program, wait=False)
            if record.is_due(now) and not self._stopping:
                record.retry_at = None
                _log.warning("%s gets another trial", program, extra={"program": program})
                with suppress(SupervisorError):
                    self._supervisor.start(program)
            if record.settle(now):
                self._changed(now)
        self._record(now)

    def _changed(self, now: float) -> None:
        for name, how in _last_exits(self._run_folder.parent / "log" / "supervisord.log").items():
            if name in self._records:
                self._records[name].last_exit = how
        save(self._run_folder, self._records)
        if self._changed_at is None:
            self._changed_at = now

    def _record(self, now: float) -> None:
        """Have the rows brought in line with the file, one process at a time, again when that failed."""
        if self._recorder is not None:
            code = self._recorder.poll()
            if code is None:
                if now - self._recorder_began > _RECORD_PATIENCE:
                    self._recorder.kill()
                return
            self._recorder = None
            if code != 0:
                _log.warning("The changes could not be written to the database (exit code %d): tried again", code)
                self._changed_at, self._next_record = self._changed_at or now, now + _RECORD_AGAIN
        if self._changed_at is None or now - self._changed_at < _CALM or now < self._next_record or self._stopping:
            return
        # What lasts for less than _CALM is seen in the file's counts all the same.
        self._changed(now)
        self._changed_at, self._recorder_began = None, now
        self._recorder = subprocess.Popen([sys.executable, "manage.py", "server", "record"], cwd=BASE,
                                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip

    # -- supervisord is gone

    def _orphaned(self) -> None:
        # Our stderr was a pipe to supervisord: the first word on it would be the last.
        log = os.open(self._run_folder.parent / "log" / f"{GUARD}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        with lock(self._run_folder) as mine:
            if not mine or processes.supervisor(self._run_folder / "supervisord.pid") is not None:
                return  # somebody is at it: `server start`, `server stop` or `recover`
            _log.critical("supervisord is gone: what it left running is ended%s",
                          "" if self._foreground else ", and it is started again")  # fmt: skip
            if killed := processes.end(processes.started_by(self._url), _HASTE):
                _log.error("These did not end by themselves and were killed: %s", killed)
            if self._foreground:
                return
            self._records[SUPERVISORD] = died(self._records.get(SUPERVISORD), time.time())
            for record in self._records.values():
                record.state, record.pid = "stopped", 0
            save(self._run_folder, self._records)
            launch(self._config)


def launch(config: Path) -> None:
    """Start supervisord in the background."""
    run_folder = config.parent
    for name in ("supervisord.pid", "supervisor.sock"):
        (run_folder / name).unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    subprocess.run([sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)],
                   env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False, timeout=60,
                   start_new_session=True)  # fmt: skip


def died(record: Record | None, now: float) -> Record:
    """Return the record of a program that was found dead."""
    record = record or Record()
    record.crashes, record.last_exit = [*record.crashes, now], "killed"
    record.starts += 1
    return record


class lock:  # noqa: N801 - reads as a verb
    """Held by who starts, stops or recovers the tree; the value says whether it was free. Ends with the process."""

    def __init__(self, run_folder: Path, name: str = "tree.lock") -> None:
        self._path = run_folder / name

    def __enter__(self) -> bool:
        self._file = self._path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._file.close()


def load(run_folder: Path) -> dict[str, Record]:
    """Return the records of var/run/programs.json; none when it is missing or damaged."""
    try:
        return {name: Record(**row) for name, row in json.loads((run_folder / "programs.json").read_text()).items()}
    except (OSError, ValueError, TypeError):
        return {}


def save(run_folder: Path, records: Mapping[str, Record]) -> None:
    """Write them; a full disk costs the file its news, not the guard its life."""
    path = run_folder / "programs.json"
    try:
        new = path.with_suffix(".new")
        new.write_text(json.dumps({name: record.as_json() for name, record in records.items()}))
        new.replace(path)
    except OSError as error:
        _log.error("programs.json could not be written: %s", error)


def _last_exits(log: Path) -> dict[str, str]:
    """Return how each program last ended, from the end of supervisord's log: it alone learns the signal."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            return dict(_ENDED.findall(file.read().decode(errors="replace")))
    except OSError:
        return {}


def _tokens(line: str) -> dict[str, str]:
    return dict(token.split(":", 1) for token in line.split())


def _answer(text: str) -> None:
    os.write(1, text.encode())


def main(arguments: list[str]) -> NoReturn:
    """Run the guard that supervisord has started."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("json"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    environment: dict[str, Any] = dict(os.environ)
    Guard(Path(arguments[0]), environment["SUPERVISOR_SERVER_URL"], "WASERVER_FOREGROUND" in environment).run()
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
