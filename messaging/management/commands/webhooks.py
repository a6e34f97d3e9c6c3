"""`manage.py webhooks list|replay`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Count
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from messaging.api.webhooks import webhook_body
from messaging.models import Delivery, DeliveryState, Event, WebhookEndpoint
from sessions_app.management.output import OurCommand


class Command(OurCommand):
    help = lazy(  # type: ignore[assignment]
        "List webhooks, and send events again. Exit codes: 0 done, 1 refused, 2 wrong usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        listing = commands.add_parser("list", help=_("all webhooks, with what waits and what was given up"))
        replay = commands.add_parser("replay", help=_("send again: a delivery, what was given up, or a time range"))
        replay.add_argument("id", type=int, help=_("id of the webhook"))
        replay.add_argument("--delivery", type=int, help=_("id of one delivery"))
        replay.add_argument("--dead", action="store_true", help=_("every delivery that was given up"))
        replay.add_argument("--since", default="", help=_("events since this time, e.g. 2030-01-01T09:00:00+07:00"))
        replay.add_argument("--until", default="", help=_("and before this one (default: now)"))
        for command in (listing, replay):
            command.add_argument("--json", action="store_true", help=_("print JSON"))

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['what']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        rows = WebhookEndpoint.objects.select_related("account")
        states = Delivery.objects.order_by().values_list("endpoint_id", "state").annotate(n=Count("pk"))
        counts = {(endpoint, state): n for endpoint, state, n in states}
        waiting = {row.pk: counts.get((row.pk, DeliveryState.PENDING), 0) for row in rows}
        dead = {row.pk: counts.get((row.pk, DeliveryState.DEAD), 0) for row in rows}
        if options["json"]:
            self.print_json([{**webhook_body(row), "pending": waiting[row.pk], "dead": dead[row.pk]} for row in rows])
            return
        for row in rows:
            state = _("failing") if row.failing_since else _("ok")
            if row.disabled_at:
                state = _("disabled: %(reason)s") % {"reason": row.disabled_reason}
            whose = row.account.label if row.account else _("every account")
            numbers = _("waiting %(waiting)d, given up %(dead)d") % {"waiting": waiting[row.pk], "dead": dead[row.pk]}
            self.stdout.write(f"{row.pk:>5}  {row.url:<50} {whose:<20} {numbers}, {state}")

    def _replay(self, options: dict[str, Any]) -> None:
        endpoint = WebhookEndpoint.objects.filter(pk=options["id"]).first()
        if endpoint is None:
            text = _("There is no webhook %(id)d: `manage.py webhooks list` shows all.")
            raise CommandError(text % {"id": options["id"]})
        if [bool(options["delivery"]), options["dead"], bool(options["since"])].count(True) != 1:
            raise CommandError(_("Say what to send again: one of --delivery, --dead and --since."))
        if options["since"]:
            since, until = _time(options["since"]), _time(options["until"]) if options["until"] else timezone.now()
            count = endpoint.replay(Event.objects.filter(at__gte=since, at__lt=until))
        else:
            finished = endpoint.deliveries.exclude(state=DeliveryState.PENDING).order_by("pk")
            wanted = {"pk": options["delivery"]} if options["delivery"] else {"state": DeliveryState.DEAD}
            chosen = list(finished.filter(**wanted))
            if options["delivery"] and not chosen:
                text = _("Webhook %(id)d has no finished delivery %(delivery)d.")
                raise CommandError(text % {"id": endpoint.pk, "delivery": options["delivery"]})
            Delivery.objects.bulk_create([
                Delivery(endpoint=endpoint, event_id=one.event_id, account_id=one.account_id, replay=True)
                for one in chosen
            ])  # fmt: skip
            count = len(chosen)
        if options["json"]:
            self.print_json({"queued": count})
        else:
            self.stdout.write(_("%(count)d deliveries queued.") % {"count": count})


def _time(text: str) -> datetime:
    try:
        at = parse_datetime(text)
    except ValueError:
        at = None
    if at is None:
        raise CommandError(_("“%(text)s” is no time: write 2030-01-01T09:00:00+07:00.") % {"text": text})
    return at if at.tzinfo else timezone.make_aware(at)
