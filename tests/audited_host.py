"""A session host that copies every observation it makes into a file, before anything else can happen to it.

`python -m tests.audited_host FILE --name NAME`: what the chaos run compares with the rows in the database.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Wrap the journal, then be run_session_host."""
    audit, *options = sys.argv[1:]
    os.environ["DJANGO_SETTINGS_MODULE"] = "waserver.settings"
    import django
    from django.core.management import call_command

    django.setup()
    from sessions_app.host import journal

    file = os.open(audit, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    append = journal.Journal.append

    def copy(self: journal.Journal, noted: journal.Noted) -> None:
        append(self, noted)
        os.write(file, journal.dump(noted))

    journal.Journal.append = copy  # type: ignore[method-assign]
    call_command("run_session_host", *options)


if __name__ == "__main__":
    main()
