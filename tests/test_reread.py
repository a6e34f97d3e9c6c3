"""A process killed between the library and our journal: what it had in hand is read again after the restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from sessions_app.whatsapp import postgres_store
from sessions_app.whatsapp.client import Kind
from sessions_app.whatsapp.contents import Text
from sessions_app.whatsapp.inbound import ReceiptKind
from tests.contract_real import RealSide, RealSubject
from tests.contract_sides import Heard
from tests.installation import wait_for
from tests.test_postgres_stores import URL, needs_postgres
from tests.wasim import Wasim

pytestmark = pytest.mark.real

_numbers = count(4_925_300_000_001)


class Stage:
    """Anna writes to Ben, whose process is killed in between."""

    def __init__(self, folder: Path, sim: Wasim) -> None:
        self.folder, self.sim = folder, sim
        self.hers, self.his = RealSide(folder, sim), RealSide(folder / "ben", sim)
        self.anna, self.ben = str(next(_numbers)), str(next(_numbers))

    def begin(self) -> None:
        """Have both online."""
        # What is tested is that nothing is confirmed while it is told. A thread takes some milliseconds until it tells,
        # and here four tests at a time wait for a processor.
        self.his.tune(afterthought=0.1)
        self.writer, self.reader = self.hers.online(self.anna), self.his.online(self.ben)

    def killed(self, on: str, act: Callable[[], object]) -> Heard:
        """Have Ben's process killed when it hears such a thing; return what he hears after the restart."""
        assert isinstance(self.reader, RealSubject)
        self.reader.ask("doom", on=on)
        act()
        wait_for(self.his.driver.ended)
        self.his.driver._end()
        stores = self.his.stores
        self.his = RealSide(self.folder / "ben", self.sim)
        self.his.stores = stores
        self.reader = self.his.connect(stores[self.ben])
        self.reader.seen.wait(Kind.CONNECTED)
        return self.reader.heard

    def close(self) -> None:
        """End both."""
        for side in (self.hers, self.his):
            side.close()
            for store in side.stores.values():
                if not store.startswith("/"):
                    postgres_store.delete(store)


@pytest.fixture(params=["files", pytest.param("postgres", marks=needs_postgres)])
def stage(request: pytest.FixtureRequest, tmp_path: Path, sim: Wasim) -> Iterator[Stage]:
    (tmp_path / "ben").mkdir()
    stage = Stage(tmp_path, sim)
    if request.param == "postgres":
        name = lambda: postgres_store.address(URL, postgres_store.fresh_name(1))  # noqa: E731
        stage.hers.new_store = stage.his.new_store = name  # type: ignore[method-assign]
    stage.begin()
    yield stage
    stage.close()


def address(phone: str) -> str:
    return f"{phone}@s.whatsapp.net"


def test_a_message_in_a_conversation(stage: Stage) -> None:
    for n in range(3):
        stage.writer.send(address(stage.ben), Text(f"before {n}"))
        stage.reader.send(address(stage.anna), Text(f"answer {n}"))
    stage.reader.heard.message(3)
    heard = stage.killed("Message", lambda: stage.writer.send(address(stage.ben), Text("in hand")))
    wait_for(lambda: "in hand" in texts(heard), 20, lambda: (texts(heard), stage.reader.seen.kinds()))
    stage.writer.send(address(stage.ben), Text("after"))
    wait_for(lambda: "after" in texts(heard), 20, lambda: texts(heard))
    stage.reader.send(address(stage.anna), Text("and back"))
    wait_for(lambda: "and back" in texts(stage.writer.heard), 20, lambda: texts(stage.writer.heard))


def test_the_first_message_of_somebody(stage: Stage) -> None:
    heard = stage.killed("Message", lambda: stage.writer.send(address(stage.ben), Text("in hand")))
    wait_for(lambda: "in hand" in texts(heard), 20, lambda: texts(heard))
    stage.writer.send(address(stage.ben), Text("after"))
    stage.reader.send(address(stage.anna), Text("and back"))
    wait_for(lambda: "after" in texts(heard), 20, lambda: texts(heard))
    wait_for(lambda: "and back" in texts(stage.writer.heard), 20, lambda: texts(stage.writer.heard))


def test_a_message_in_a_group(stage: Stage) -> None:
    group = stage.hers.make_group("120363200000000001", "Kantor", [stage.anna, stage.ben])
    stage.writer.send(group, Text("before"))
    stage.reader.heard.message()
    heard = stage.killed("Message", lambda: stage.writer.send(group, Text("in hand")))
    wait_for(lambda: "in hand" in texts(heard), 20, lambda: texts(heard))
    stage.writer.send(group, Text("after"))
    wait_for(lambda: "after" in texts(heard), 20, lambda: texts(heard))


def test_a_receipt(stage: Stage) -> None:
    sent = []
    heard = stage.killed("Receipt", lambda: sent.append(stage.reader.send(address(stage.anna), Text("to her"))))
    heard.receipt(sent[0].id, ReceiptKind.DELIVERED)


def texts(heard: Heard) -> list[str]:
    return [message.content.text for message in heard.messages if isinstance(message.content, Text)]
