"""Session: the one connection record of an account."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, Desired
from sessions_app import changes
from sessions_app.models.command import SessionCommand, Verb
from sessions_app.models.event import LEASE_LOST, RELEASED, REQUESTED, SessionEvent
from sessions_app.models.host import Host
from sessions_app.retry import Failure
from sessions_app.states import NEEDS_PAIRING, State
from sessions_app.whatsapp import device_store

#: Who asks: a user, or the name of a command.
Actor = User | AnonymousUser | str


class SessionQuerySet(models.QuerySet["Session"]):
    def claimable(self, now: datetime) -> SessionQuerySet:
        """Those nobody owns and somebody should."""
        return self.filter(host=None, due_at__lte=now)

    def lease_ran_out(self, now: datetime) -> SessionQuerySet:
        """Those whose owner did not renew in time."""
        return self.filter(host__isnull=False, lease_expires_at__lt=now)

    def unlocked(self) -> SessionQuerySet:
        """Those no other transaction holds, locked from now on; the others come up again at the next look.

        A machine that was cut off inside a transaction keeps its rows locked until the database gives it up; whoever
        waited for one of them could not renew its own leases meanwhile.
        """
        return self.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)

    def expire_leases(self, now: datetime, by: str) -> int:
        """Take the sessions of dead hosts away and mark them due; return their number. `by` who noticed."""
        if not self.lease_ran_out(now).exists():
            return 0
        taken = 0
        with transaction.atomic():
            # Locked, so that of two who notice at once only one writes it down.
            lost = list(self.lease_ran_out(now).unlocked())
            for start in range(0, len(lost), 5000):  # SQLite bounds the parameters of one statement
                taken += self.lease_ran_out(now).filter(pk__in=[row.pk for row in lost[start : start + 5000]]).update(
                    host=None, lease_expires_at=None, due_at=now, version=F("version") + 1
                )
            names = dict(Host.objects.filter(pk__in={row.host_id for row in lost}).values_list("pk", "name"))
            SessionEvent.objects.bulk_create(
                row.own_event(LEASE_LOST, by, "lease_ran_out", now, owner=names.get(row.host_id or 0, ""),
                              expired_at=row.lease_expires_at.isoformat())
                for row in lost if row.lease_expires_at is not None
            )  # fmt: skip
        return taken

    def claim(self, pk: int, host: Host, now: datetime) -> bool:
        """Make `host` the owner, with a new epoch; False when another was faster."""
        changed = self.claimable(now).filter(pk=pk).update(
            host=host, lease_expires_at=now + settings.LEASE, lease_epoch=F("lease_epoch") + 1, due_at=None,
            version=F("version") + 1,
        )  # fmt: skip
        return changed == 1

    def wanted_online(self) -> SessionQuerySet:
        """Those that should be connected and could be without a person."""
        return self.filter(account__desired=Desired.ONLINE, hold="").exclude(state__in=NEEDS_PAIRING)


class Session(models.Model):
    """State is written by the host that holds the lease, and by nobody else."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="session")
    state = models.CharField(
        _("state"), max_length=12, choices=[(s, s) for s in State], default=State.UNPAIRED, db_index=True
    )
    reason = models.CharField(_("reason"), max_length=40, blank=True)
    code = models.IntegerField(_("code"), null=True)
    detail = models.JSONField(_("detail"), default=dict, blank=True)
    state_changed_at = models.DateTimeField(_("in this state since"), default=timezone.now)
    #: Raised by every write, so that a watching page misses none whatever the order of commits.
    version = models.BigIntegerField(default=0)

    host = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, blank=True, related_name="owned")
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True, db_index=True)
    lease_epoch = models.PositiveIntegerField(_("lease epoch"), default=0)
    due_at = models.DateTimeField(_("due"), null=True, db_index=True)

    retry_at = models.DateTimeField(_("next attempt"), null=True, db_index=True)
    attempts = models.PositiveIntegerField(_("failures in a row"), default=0)
    failures = models.JSONField(default=list, blank=True)  # [[ISO time, code], ...] of the last half hour
    breaker_open = models.BooleanField(_("circuit breaker open"), default=False)
    hold = models.CharField(_("waits for a person"), max_length=24, blank=True)
    checked_at = models.DateTimeField(_("last checked"), null=True)
    connected_at = models.DateTimeField(_("connected since"), null=True)
    last_connected_at = models.DateTimeField(_("last connected"), null=True)

    qr_text = models.TextField(blank=True)
    pair_code = models.CharField(max_length=16, blank=True)
    code_expires_at = models.DateTimeField(null=True)
    code_count = models.PositiveIntegerField(default=0)
    pairing_expires_at = models.DateTimeField(null=True)
    pairing_phone = models.CharField(max_length=16, blank=True)
    pairing_store = models.CharField(max_length=200, blank=True)

    store = models.CharField(_("device store"), max_length=200, blank=True)
    lid = models.CharField(_("LID"), max_length=64, blank=True)
    push_name = models.CharField(_("push name"), max_length=120, blank=True)
    platform = models.CharField(_("platform"), max_length=40, blank=True)
    paired_at = models.DateTimeField(_("paired"), null=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ["account__label"]
        permissions = [
            ("pair_session", "Can pair a phone (sees QR codes)"),
            ("control_session", "Can start, stop, restart and log out sessions"),
        ]

    def __str__(self) -> str:
        return str(self.account)

    # -- what it is

    @property
    def store_path(self) -> str:
        """Return the absolute path of the device store, or its address in PostgreSQL; "" when there is none."""
        return _store_path(self.store)

    @property
    def pairing_store_path(self) -> str:
        """Return the absolute path of the store a pairing writes, or ""."""
        return _store_path(self.pairing_store)

    @property
    def recent_failures(self) -> list[Failure]:
        """Return the failures remembered, oldest first."""
        return [Failure(datetime.fromisoformat(at), code) for at, code in self.failures]

    def is_stale(self, now: datetime) -> bool:
        """Return whether its owner's lease ran out, so that its state cannot be trusted."""
        return self.lease_expires_at is not None and self.lease_expires_at < now

    # -- what staff may ask

    def request_start(self, by: Actor) -> SessionCommand:
        """Want it online, now: forgets holds and waiting times."""
        return self._request(Verb.START, by, desired=Desired.ONLINE)

    def request_stop(self, by: Actor) -> None:
        """Want it offline; the keys stay."""
        with transaction.atomic():
            self._want(Desired.OFFLINE)
            self._note(by, "stop")
        changes.announce(self.pk)

    def request_restart(self, by: Actor) -> SessionCommand:
        """Stop it and start it again."""
        return self._request(Verb.RESTART, by, desired=Desired.ONLINE)

    def request_pairing(self, by: Actor, phone: str = "") -> SessionCommand:
        """Show a QR code, or with `phone` (digits) an 8-character code. Existing keys stay until it succeeded."""
        return self._request(Verb.PAIR, by, desired=Desired.ONLINE, phone=phone)

    def cancel_pairing(self, by: Actor) -> SessionCommand:
        """Give a pairing up."""
        return self._request(Verb.CANCEL_PAIRING, by)

    def request_logout(self, by: Actor) -> SessionCommand:
        """Unlink the device at WhatsApp; its keys are worthless afterwards."""
        return self._request(Verb.LOGOUT, by)

    def _request(self, verb: Verb, by: Actor, desired: Desired | None = None, **arguments: Any) -> SessionCommand:
        with transaction.atomic():
            self._want(desired)
            command = SessionCommand.objects.create(
                session=self, verb=verb, arguments={k: v for k, v in arguments.items() if v},
                requested_by=by if isinstance(by, User) else None, requester=str(by),
            )  # fmt: skip
            self._note(by, verb)
        changes.announce(self.pk)
        return command

    def _want(self, desired: Desired | None) -> None:
        if desired is not None:
            Account.objects.filter(pk=self.account_id).update(desired=desired)
            self.account.desired = desired
        Session.objects.filter(pk=self.pk).update(due_at=timezone.now(), version=F("version") + 1)

    def _note(self, by: Actor, reason: str) -> None:
        self.own_event(REQUESTED, str(by), reason, timezone.now()).save()

    def own_event(self, kind: str, by: str, reason: str, now: datetime, **evidence: Any) -> SessionEvent:
        """Return, not yet saved, an event that is no observation and changes no state."""
        return SessionEvent(
            session=self, at=now, kind=kind, actor=by, before=self.state, after=self.state, epoch=self.lease_epoch,
            reason=reason, evidence=evidence,
        )  # fmt: skip

    # -- what its owner does

    def save_owned(self, fields: list[str]) -> bool:
        """Write `fields`, only while the lease is still the one this row was read with; return whether it was."""
        values = {name: getattr(self, name) for name in fields}
        changed = (
            Session.objects.filter(pk=self.pk, host=self.host_id, lease_epoch=self.lease_epoch)
            .update(**values, version=F("version") + 1)
        )  # fmt: skip
        self.version += changed  # at most what the row has now
        return changed == 1

    def release(self, due_at: datetime | None) -> bool:
        """Give the lease back; with `due_at` it may be claimed again from then on.

        A wish of staff that arrived meanwhile (`due_at` set on the row, an open command) is kept.
        """
        mine = Session.objects.filter(pk=self.pk, host=self.host_id, lease_epoch=self.lease_epoch)
        if due_at is None:
            # Only when no wish arrived since the row was read: a lost one would never be served.
            mine = mine.filter(Q(due_at=None), ~Q(commands__finished_at=None, commands__isnull=False))
        values: dict[str, Any] = {"host": None, "lease_expires_at": None, "version": F("version") + 1}
        if due_at is not None:
            values["due_at"] = due_at
        with transaction.atomic():
            released = mine.update(**values) == 1
            if released:
                owner = self.host.name if self.host else ""
                reason = "at_rest" if due_at is None else "handed_over"
                self.own_event(RELEASED, owner, reason, timezone.now()).save()
        return released


def _store_path(name: str) -> str:
    return device_store.locate(name, settings.DEVICES_DIR, settings.DEVICE_STORE_URL) if name else ""
