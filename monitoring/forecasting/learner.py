"""The model and its judge: a logistic regression that learns hour by hour (river), held against "same as yesterday".

Every hour of the past is first predicted, with what was known then, and learnt from afterwards: so the score is that of
real forecasts. From which risk on one warns is chosen from earlier hours alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from monitoring.forecasting.history import DAY, History

#: The first days are learnt from and not scored.
BURN_IN = 3 * DAY
#: Less than this says nothing: hours of one session; hours of all; hours with a drop among them.
SESSION_HOURS, HOURS, DROPS = 3 * DAY, 500, 30
#: Of the warnings at least this share must have been right, or nobody heeds them.
RIGHT = 0.25
#: So many times better than "same as yesterday" it must be (F1).
BETTER = 1.05
#: Hours with a drop looked at, and hours without, at most. Beyond it only each n-th is, and counts n times.
MOST = 60_000
#: What may be chosen as the risk from which one warns.
THRESHOLDS = tuple(number / 50 for number in range(2, 46))


#: Features that are no counts: 0 says something too.
_ALWAYS = frozenset({"morning", "midday", "quiet"})


class Finding(StrEnum):
    """What came of learning."""

    GOOD = "good"
    TOO_LITTLE = "too_little"  # data
    NO_BETTER = "no_better"  # than "same as yesterday", or right too rarely
    NO_LIBRARY = "no_library"  # river is not installed


@dataclass
class Score:
    """Hours with a warning and a drop, with a warning only, with a drop only."""

    right: float = 0.0
    wrong: float = 0.0
    missed: float = 0.0

    def add(self, warned: bool, dropped: bool, weight: float) -> None:
        """Count one hour."""
        if warned and dropped:
            self.right += weight
        elif warned:
            self.wrong += weight
        elif dropped:
            self.missed += weight

    @property
    def precision(self) -> float:
        """Return the share of the warnings that were right; 0 without any."""
        return self.right / (self.right + self.wrong) if self.right else 0.0

    @property
    def recall(self) -> float:
        """Return the share of the hours with a drop that were warned of; 0 without any."""
        return self.right / (self.right + self.missed) if self.right else 0.0

    @property
    def f1(self) -> float:
        """Return the harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass
class Learner:
    """Learns from examples in the order of time and keeps the score."""

    model: Any
    mine: Score = field(default_factory=Score)
    yesterday: Score = field(default_factory=Score)
    hours: int = 0
    drops: int = 0
    weight: float = 0.0  # of the hours that were scored
    threshold: float = THRESHOLDS[len(THRESHOLDS) // 2]
    _tried: dict[float, Score] = field(default_factory=lambda: {one: Score() for one in THRESHOLDS})

    def see(self, features: Mapping[str, float], dropped: bool, weight: float, scored: bool) -> None:
        """Predict one hour, keep the score, learn."""
        if self.hours:
            risk = self.risk(features)
            if scored:
                self.weight += weight
                self.mine.add(risk >= self.threshold, dropped, weight)
                self.yesterday.add(features["yesterday"] > 0, dropped, weight)
            for threshold, score in self._tried.items():
                score.add(risk >= threshold, dropped, weight)
        self.model.learn_one(dict(features), dropped, w=weight)
        self.hours += 1
        self.drops += dropped

    def choose(self) -> None:
        """Take the threshold that would have served best until now."""
        self.threshold = max(self._tried, key=lambda threshold: (self._tried[threshold].f1, -threshold))

    def risk(self, features: Mapping[str, float]) -> float:
        """Return the probability of a drop within the next hour."""
        return float(self.model.predict_proba_one(dict(features)).get(True, 0.0))

    def reasons(self, features: Mapping[str, float], most: int = 3) -> list[str]:
        """Return what raises the risk above the usual: names of features, the strongest first.

        Something that did not happen is never named, though its absence may weigh.
        """
        scaled = self.model["StandardScaler"].transform_one(dict(features))
        weights = self.model["LogisticRegression"].weights
        parts = [(name, weights.get(name, 0.0) * value) for name, value in scaled.items()]
        named = [(name, part) for name, part in parts if part > 0.1 and (features[name] > 0 or name in _ALWAYS)]
        return [name for name, _part in sorted(named, key=lambda one: -one[1])[:most]]

    @property
    def usual(self) -> float:
        """Return the share of the hours with a drop."""
        return (self.mine.right + self.mine.missed) / self.weight if self.weight else 0.0

    @property
    def finding(self) -> Finding:
        """Return whether its forecasts may be shown."""
        if self.hours < HOURS or self.drops < DROPS:
            return Finding.TOO_LITTLE
        good = self.mine.f1 > BETTER * self.yesterday.f1 and self.mine.precision >= RIGHT
        return Finding.GOOD if good else Finding.NO_BETTER


def new_learner() -> Learner:
    """Return one that knows nothing yet. Raises ImportError where river is not installed."""
    from river import linear_model, optim, preprocessing

    regression = linear_model.LogisticRegression(optimizer=optim.AdaGrad(0.05), l2=1e-4, intercept_lr=0.01)
    return Learner(preprocessing.StandardScaler() | regression)


def learn(histories: Mapping[int, History], begin: float, end: float) -> Learner:
    """Return a learner that went through every whole hour from `begin` to `end`."""
    learner = new_learner()
    for number, (hour, examples) in enumerate(_hours(histories, begin, end)):
        for features, dropped, weight in examples:
            learner.see(features, dropped, weight, scored=hour - begin >= BURN_IN)
        if number % 6 == 5:
            learner.choose()
    learner.choose()
    return learner


_Example = tuple[Mapping[str, float], bool, float]


def _hours(histories: Mapping[int, History], begin: float, end: float) -> Iterator[tuple[float, Sequence[_Example]]]:
    """Yield each hour and its examples: of the sessions connected at its beginning."""
    whole = int(end - begin)
    each = max(1, -(-whole * len(histories) // MOST))
    each_drop = max(1, -(-sum(len(history.drops) for history in histories.values()) // MOST))
    for number in range(whole):
        hour = begin + number
        examples: list[_Example] = []
        for pk, history in histories.items():
            if hour < history.begin + DAY or not history.at_risk(hour):
                continue
            dropped = history.drops_within(hour)
            weight = each_drop if dropped else each
            if (pk + 7 * number) % weight == 0:
                examples.append((history.features(hour), dropped, float(weight)))
        yield hour, examples
