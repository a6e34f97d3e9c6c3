"""Loaded before Django's settings (`-p tests.environment`): tests have a folder and keys of their own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "WASERVER_TEST_FOLDER" not in os.environ:  # workers of one run share it
    folder = tempfile.mkdtemp(prefix="waserver-test-")
    os.environ["WASERVER_TEST_FOLDER"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
os.environ["VAR_DIR"] = os.environ["WASERVER_TEST_FOLDER"]
os.environ["SECRET_KEY"] = "for tests only"
os.environ["COLLECT_INTERVAL"] = "0"  # no thread of ours writes beside a test's transaction
for name in ("DATABASE_URL", "REDIS_URL"):
    if value := os.environ.get(f"TEST_{name}"):
        os.environ[name] = value
    else:
        os.environ.pop(name, None)
# Processes that test at once have a Redis database each: a job of one must not end in the cluster of another.
url, _slash, number = os.environ.get("REDIS_URL", "").rpartition("/")
if url and number.isdigit() and (worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")).isdigit():
    os.environ["REDIS_URL"] = f"{url}/{(int(number) - int(worker)) % 16}"
