"""A cluster that is killed leaves no process behind."""

from __future__ import annotations

import psutil
import pytest

from tests.installation import Installation, wait_for
from waserver.processes import still_running


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_killed_cluster_goes_on(installation: Installation) -> None:
    cluster = installation.start("cluster", "manage.py", "qcluster")
    parent = psutil.Process(cluster.pid)
    wait_for(lambda: len(parent.children(recursive=True)) >= 4, 60, installation.log("cluster"))
    children = parent.children(recursive=True)
    cluster.kill()
    assert not still_running(children, 10)
