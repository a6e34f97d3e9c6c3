"""How good the forecast of lost connections is: precision and recall against "same as yesterday", each hour predicted
with what was known before it. By default on a simulated history (monitoring/forecasting/simulated.py says how it is
made); with --real on the events of the database that the settings name, which is only read.

    .venv/bin/python bench/forecast.py
    .venv/bin/python bench/forecast.py --real
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

DAY = 24


def main() -> int:
    """Print one JSON line; 0 when the forecast is better, 1 when it is not or may not be shown."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sessions", type=int, default=100)
    options.add_argument("--days", type=int, default=21)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--real", action="store_true", help="on the events of this installation")
    chosen = options.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "waserver.settings")
    import django

    django.setup()
    from django.db import DatabaseError
    from django.utils import timezone

    from monitoring.forecasting.learner import Finding, Score, learn
    from monitoring.forecasting.run import WINDOW, hours, read
    from monitoring.forecasting.simulated import simulated

    began = time.monotonic()
    if chosen.real:
        now = timezone.now()
        try:
            histories, begin, end = read(now - WINDOW, now), hours(now - WINDOW), hours(now)
        except DatabaseError as error:
            sys.exit(f"The events cannot be read ({error}): check DATABASE_URL and VAR_DIR.")
        begin = max(begin, min((history.begin for history in histories.values()), default=end))
    else:
        histories, begin, end = simulated(chosen.sessions, chosen.days, chosen.seed), 0.0, float(DAY * chosen.days)
    learner = learn(histories, begin, end)

    def told(score: Score) -> dict[str, float]:
        return {"precision": round(score.precision, 3), "recall": round(score.recall, 3), "f1": round(score.f1, 3)}

    print(json.dumps({
        "history": "real" if chosen.real else f"simulated, seed {chosen.seed}", "sessions": len(histories),
        "days": round((end - begin) / DAY, 1), "hours_learnt": learner.hours, "hours_with_a_drop": learner.drops,
        "finding": learner.finding, "warns_from": learner.threshold, "forecast": told(learner.mine),
        "same_as_yesterday": told(learner.yesterday), "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }))  # fmt: skip
    return 0 if learner.finding is Finding.GOOD else 1


if __name__ == "__main__":
    sys.exit(main())
