"""An Idempotency-Key is part of its message and no row of its own; those of the last 24 hours go along."""

from datetime import timedelta

from django.db import migrations, models
from django.utils import timezone


def take_along(apps, schema_editor):
    keys, messages = apps.get_model("messaging", "IdempotencyKey"), apps.get_model("messaging", "Message")
    for key in keys.objects.filter(created_at__gt=timezone.now() - timedelta(hours=24)).iterator():
        messages.objects.filter(pk=key.message_id).update(
            api_key_id=key.api_key_id, idempotency_key=key.key, body_hash=key.body_hash
        )


def take_back(apps, schema_editor):
    keys, messages = apps.get_model("messaging", "IdempotencyKey"), apps.get_model("messaging", "Message")
    for message in messages.objects.exclude(idempotency_key=None).exclude(api_key=None).iterator():
        keys.objects.create(api_key_id=message.api_key_id, key=message.idempotency_key, body_hash=message.body_hash,
                            message_id=message.pk, created_at=message.created_at)  # fmt: skip


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0002_apikey"),
        ("messaging", "0004_media_by_state"),
    ]

    operations = [
        migrations.AddField("message", "idempotency_key", models.CharField(max_length=255, null=True, editable=False)),
        migrations.AddField("message", "body_hash", models.CharField(max_length=64, blank=True, editable=False, default=""),
                            preserve_default=False),
        migrations.RunPython(take_along, take_back, elidable=True),
        migrations.AddConstraint("message", models.UniqueConstraint(
            fields=["api_key", "idempotency_key"], name="message_once_per_key")),
        migrations.DeleteModel("IdempotencyKey"),
    ]
