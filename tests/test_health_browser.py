"""Health in a real browser: cards that change by themselves, incidents worked on, pages everybody can use."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from accounts.models import Account
from monitoring import actions
from monitoring.models import AlertChannel, Change, HealthSample, Incident, Resolution, Severity, Threshold
from sessions_app.models import Session
from tests.installation import Installation, fresh, wait_for
from tests.test_e2e import address, browser, logged_in
from tests.wasim import Wasim

pytestmark = pytest.mark.browser

__all__ = ["address", "browser"]

#: Seconds from a breach to the card that says so.
LIMIT = 35.0

#: Waits until no colour fades any more.
_FADED = "Promise.allSettled(document.getAnimations().filter(it => it instanceof CSSTransition).map(it => it.finished))"


#: Nothing is wider than a phone, no chart wider than its place.
_FITS = """document.documentElement.scrollWidth <= 390
    && [...document.querySelectorAll("canvas")].every(chart => chart.clientWidth <= chart.parentElement.clientWidth)"""


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page when asked to: light, dark, and as wide as a phone."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
        page.evaluate("document.documentElement.classList.add('dark')")
        page.screenshot(path=f"{folder}/{name}-dark.png", full_page=True)
        page.evaluate("document.documentElement.classList.remove('dark')")
        page.set_viewport_size({"width": 390, "height": 844})
        page.screenshot(path=f"{folder}/{name}-phone.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})


def faults(page: Page, address: str, pages: dict[str, str]) -> list[str]:
    """Return what keeps people from using these pages: found by axe, light and dark, or wider than a phone."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    for name, path in pages.items():
        answer = page.goto(f"{address}{path}")
        assert answer is not None
        assert answer.ok, name
        page.wait_for_load_state("networkidle")
        shot(page, name)
        for dark in (False, True):
            page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", dark)
            page.evaluate(_FADED)
            for fault in Axe().run(page).response["violations"]:
                if fault["impact"] in ("serious", "critical"):
                    where = "; ".join(node["html"][:120] for node in fault["nodes"][:3])
                    found.append(f"{name}{' dark' * dark}: {fault['id']}: {fault['help']}: {where}")
        page.set_viewport_size({"width": 390, "height": 844})
        try:
            page.wait_for_function(_FITS, timeout=15_000)  # charts follow late
        except PlaywrightTimeout:
            found.append(f"{name}: {page.evaluate('document.documentElement.scrollWidth')} px wide on a phone")
        page.set_viewport_size({"width": 1280, "height": 900})
    return found


def history(metric: str, *, days: int = 30) -> None:
    """Write a month of values: hours, and the last day in readings."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    hours = [
        HealthSample(metric=metric, resolution=Resolution.HOUR, at=now - timedelta(hours=n), value=50 + n % 24,
                     minimum=40, maximum=60 + n % 30, count=120)
        for n in range(1, days * 24)
    ]  # fmt: skip
    start = timezone.now().replace(microsecond=0)
    readings = [
        HealthSample(metric=metric, at=start - timedelta(seconds=30 * n), value=55 + n % 30, minimum=55 + n % 30,
                     maximum=55 + n % 30)
        for n in range(1, 2800)
    ]  # fmt: skip
    HealthSample.objects.bulk_create(hours + readings, batch_size=500)


def incident() -> Incident:
    """Return an open incident with evidence of every shape and something folded in."""
    now = timezone.now()
    parent, _change = Incident.open(
        "error_rate", "system", "", "", "Error rate: 12.5 %, limit 10 %", Severity.CRITICAL, now,
        {"value": 12.5, "warning": 5, "critical": 10},
    )  # fmt: skip
    threshold = Threshold.objects.get(metric="error_rate", account=None)
    actions.act(parent, threshold, now)
    parent.record("action", now, "Looked for the causes.", evidence={  # type: ignore[arg-type]
        "accounts": [{"account": "Front office", "failed": 12}], "codes": [{"code": 408, "what": "x", "failed": 3}],
        "log": ["host-1: 2026-01-01 12:00:00 WARNING sessions_app.host: something was slow"],
    })  # fmt: skip
    account = Account.objects.create(label="Back office")
    Incident.open("offline", "account", str(account.pk), "Back office", "Back office is not connected",
                  Severity.WARNING, now, {"state": "waiting"}, parent)  # fmt: skip
    return parent


def test_a_card_changes_its_colour_within_35_s_of_a_breach_without_a_reload(
    browser: Browser, address: str, installation: Installation, sim: Wasim
) -> None:
    session = installation.paired("Front office", "6281200000991")
    installation.start("cluster", "manage.py", "qcluster")
    page = logged_in(browser, address)
    card = page.locator("#card-sessions_offline")
    expect(card).to_have_attribute("data-level", "unknown")  # never green before it is known
    installation.until(session, "connected")
    expect(card).to_have_attribute("data-level", "ok", timeout=210_000)
    expect(page.locator("#health-sign")).to_have_text("live")
    loaded = page.evaluate("performance.timeOrigin")
    try:
        sim.faults.break_network("refused")
        sim.faults.drop("6281200000991")
        wait_for(lambda: fresh(session).state != "connected", 20)
        began = time.monotonic()
        expect(card).to_have_attribute("data-level", "critical", timeout=LIMIT * 1000)
        took = time.monotonic() - began
    finally:
        sim.faults.break_network("")
        installation.programs["cluster"].stop(30)  # SIGKILL would leave its workers behind
    print(f"\nfrom the breach to the red card: {took:.1f} s (at most {LIMIT:.0f} s)")
    expect(card).to_contain_text("critical")
    expect(page.locator("#health-said")).to_contain_text("critical")
    assert page.evaluate("performance.timeOrigin") == loaded
    shot(page, "index-live")


def test_every_page_can_be_used_by_everybody(browser: Browser, address: str, installation: Installation) -> None:
    history("memory_usage")
    parent = incident()
    account = Account.objects.create(label="Front office")
    channel = AlertChannel.objects.create(name="Night shift", url="json://127.0.0.1:9/", service="JSON",
                                          last_error="It did not answer.", last_failure_at=timezone.now())  # fmt: skip
    alert = channel.queue("opened:1", Change.OPENED, parent.title, "The text of it.", urgent=True)
    alert.save()
    page = logged_in(browser, address)
    assert faults(page, address, {
        "index": "/admin/", "account": f"/admin/accounts/account/{account.pk}/change/",
        "accounts": "/admin/accounts/account/", "pairing": f"/admin/accounts/account/{account.pk}/pair/",
        "incident": f"/admin/monitoring/incident/{parent.pk}/change/", "incidents": "/admin/monitoring/incident/",
        "thresholds": "/admin/monitoring/threshold/", "metric": "/admin/monitoring/incident/metric/memory_usage/",
        "metric-30d": "/admin/monitoring/incident/metric/memory_usage/?range=30d",
        "report": "/admin/health/report/", "report-7d": "/admin/health/report/?since=7d",
        "forecast": "/admin/health/forecast/", "channels": "/admin/monitoring/alertchannel/",
        "channel": f"/admin/monitoring/alertchannel/{channel.pk}/change/",
        "channel-new": "/admin/monitoring/alertchannel/add/", "alerts": "/admin/monitoring/alertdelivery/",
        "alert": f"/admin/monitoring/alertdelivery/{alert.pk}/change/",
    }) == []  # fmt: skip


def test_staff_work_on_an_incident(browser: Browser, address: str, installation: Installation) -> None:
    parent = incident()
    page = logged_in(browser, address)
    page.get_by_role("link", name="Error rate: 12.5 %, limit 10 %").click()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#incident-head")).to_contain_text("acknowledged")
    page.select_option("select[name=assignee]", label="ana")
    page.get_by_role("button", name="Assign").click()
    page.fill("textarea[name=text]", "The provider has an outage.")
    page.get_by_role("button", name="Add note").click()
    expect(page.locator("#incident-timeline")).to_contain_text("The provider has an outage.")
    other = browser.contexts[0].new_page()
    other.goto(page.url)
    expect(other.locator("#health-sign")).to_have_text("live")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator("#incident-head")).to_have_attribute("data-state", "resolved")
    expect(other.locator("#incident-head")).to_have_attribute("data-state", "resolved", timeout=15_000)
    kinds = list(parent.entries.order_by("id").values_list("kind", flat=True))
    assert kinds[-4:] == ["acknowledged", "assigned", "note", "resolved"]
    assert Session.objects.exists()
