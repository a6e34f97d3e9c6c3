"""The report as JSON has it: docs/report.schema.json says the same, and a test proves it."""

from __future__ import annotations

from typing import TypedDict


class AccountPart(TypedDict):
    """One account. Times in seconds; `uptime` is a share, null when no connection was expected."""

    id: int
    label: str
    state: str
    uptime: float | None
    up: float
    down: float
    excused: float
    unknown: float
    losses: int
    longest_outage: float


class ReconnectPart(TypedDict):
    """Connections lost with one code (null: none was given); `median` and `p95` seconds until they were back."""

    code: int | None
    meaning: str
    lost: int
    back: int
    median: float | None
    p95: float | None


class RoutePart(TypedDict):
    """One API route; times in seconds."""

    route: str
    count: int
    errors: int
    p95: float | None


class RequestPart(TypedDict):
    """The API; times in seconds, null without requests."""

    count: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None
    slowest: list[RoutePart]


class OperationPart(TypedDict):
    """Everything that can fail, and the failed share (null without operations)."""

    count: int
    failed: int
    error_rate: float | None


class HourPart(TypedDict):
    """One hour, from its beginning."""

    at: str
    requests: int
    messages: int
    losses: int


class MemoryPart(TypedDict):
    """Memory as a share of its limit in percent, and where it is heading."""

    first: float | None
    last: float | None
    highest: float | None
    limit: float
    finding: str
    per_hour: float | None
    confidence: float | None
    reached_at: str | None
    earliest: str | None
    latest: str | None
    sentence: str


class IncidentPart(TypedDict):
    """One incident; `lasted` in seconds, `resolved_at` null while it is open."""

    id: int
    title: str
    severity: str
    state: str
    opened_at: str
    resolved_at: str | None
    lasted: float


class CapacityPart(TypedDict):
    """How many more sessions fit; null where it cannot be told."""

    sessions: int
    slots: int
    bytes_per_session: int | None
    more_by_slots: int
    more_by_memory: int | None
    more: int | None
    limited_by: str
    sentence: str


class Report(TypedDict):
    """All of it."""

    version: int
    generated_at: str
    since: str
    until: str
    uptime: float | None
    accounts: list[AccountPart]
    reconnects: list[ReconnectPart]
    requests: RequestPart
    operations: OperationPart
    hours: list[HourPart]
    busiest: list[HourPart]
    memory: MemoryPart
    incidents: list[IncidentPart]
    capacity: CapacityPart
    missing: list[str]
