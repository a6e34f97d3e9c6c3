"""An Idempotency-Key is part of its message and no row of its own; those of the last 24 hours go along.

Backwards they are forgotten: a hash does not say what the key was.
"""

import hashlib
from datetime import timedelta

from django.db import migrations, models
from django.utils import timezone


def take_along(apps, schema_editor):
    keys, messages = apps.get_model("messaging", "IdempotencyKey"), apps.get_model("messaging", "Message")
    for key in keys.objects.filter(created_at__gt=timezone.now() - timedelta(hours=24)).iterator():
        messages.objects.filter(pk=key.message_id).update(
            api_key_id=key.api_key_id, body_hash=key.body_hash,
            idempotency_hash=hashlib.sha256(key.key.encode()).hexdigest(),
        )


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0002_apikey"),
        ("messaging", "0004_media_by_state"),
    ]

    operations = [
        migrations.AddField("message", "idempotency_hash", models.CharField(max_length=64, null=True, editable=False)),
        migrations.AddField(
            "message", "body_hash", models.CharField(max_length=64, blank=True, editable=False, default=""),
            preserve_default=False,
        ),
        migrations.RunPython(take_along, migrations.RunPython.noop, elidable=True),
        migrations.AddConstraint("message", models.UniqueConstraint(
            fields=["api_key", "idempotency_hash"], name="message_once_per_key")),
        migrations.DeleteModel("IdempotencyKey"),
    ]
