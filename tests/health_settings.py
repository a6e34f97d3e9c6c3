"""The server's settings with addresses that can be slow and broken when asked to: for the tests of thresholds."""

from waserver.settings import *  # noqa: F403

ROOT_URLCONF = "tests.health_urls"
