"""What a browser is shown of a session: the same text for the first page and for every push."""

from __future__ import annotations

from typing import Any

import segno
from django.contrib.auth.models import AnonymousUser, User
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from accounts.models import Account
from sessions_app.explanations import Explanation, explain, moment
from sessions_app.models import Session
from sessions_app.states import LIVE, State

PAIR, CONTROL = "sessions_app.pair_session", "sessions_app.control_session"
#: As in the admin, who may change accounts may see them.
VIEW = ("accounts.view_account", "accounts.change_account")


def may_view(user: User | AnonymousUser) -> bool:
    """Return whether the user may see accounts."""
    return any(map(user.has_perm, VIEW))


def cells(session: Session, account: Account) -> dict[str, str]:
    """Return the columns of the account list that change by themselves."""
    return {
        "number": account.phone_display or "–",
        "since": moment(session.connected_at) or "–",
        "host": str(session.host or "–"),
    }


def panel_context(session: Session, user: User) -> dict[str, Any]:
    """Return what panel.html needs. A code is in it only for those who may pair."""
    may_pair = user.has_perm(PAIR)
    state = State(session.state)
    return {
        "session": session,
        "account": session.account,
        "explanation": explain(session, timezone.now()),
        "qr": qr_svg(session.qr_text) if may_pair and session.qr_text else "",
        "pair_code": session.pair_code if may_pair else "",
        "connected_since": moment(session.connected_at),
        "may_pair": may_pair,
        "may_control": user.has_perm(CONTROL),
        "pairing": state is State.PAIRING,
        "live": state in LIVE,
        "paired": bool(session.store),
    }


def qr_svg(text: str) -> SafeString:
    """Return the QR code as crisp inline SVG with its quiet zone of four modules, dark on white in every theme."""
    code = segno.make_qr(text, error="l")
    svg = code.svg_inline(border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr-code", lineclass=None)
    return mark_safe(svg)  # noqa: S308 - drawn by segno from modules, no text inside


def badge(explanation: Explanation) -> str:
    """Return the coloured badge."""
    return render_to_string("sessions_app/badge.html", {"explanation": explanation})


def snapshot(session: Session, user: User, with_panel: bool) -> dict[str, Any]:
    """Return what is pushed to one browser."""
    explanation = explain(session, timezone.now())
    shown: dict[str, Any] = {
        "id": session.pk, "version": session.version, "state": session.state, "badge": badge(explanation),
        "sentence": f"{explanation.sentence} {explanation.what_to_do}".strip(),
        "cells": cells(session, session.account),
    }  # fmt: skip
    if with_panel:
        shown["panel"] = render_to_string("sessions_app/panel.html", panel_context(session, user))
    return shown
