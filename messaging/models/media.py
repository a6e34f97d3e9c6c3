"""Media: a file that came with a message or goes out with one."""

from __future__ import annotations

import hashlib
import os
import uuid
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiKey


class MediaState(models.TextChoices):
    """Whether the bytes are here."""

    WANTED = "wanted", _("to be fetched")
    STORED = "stored", _("stored")
    FAILED = "failed", _("failed")


class Media(models.Model):
    """The bytes are under var/media, named by their SHA-256; equal bytes are kept once. URL media is fetched later."""

    state = models.CharField(_("state"), max_length=8, choices=MediaState.choices, default=MediaState.STORED)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True, db_index=True)
    mime = models.CharField(_("type"), max_length=120)
    size = models.BigIntegerField(_("size (bytes)"), default=0)
    path = models.CharField(_("file"), max_length=120, blank=True, help_text=_("Under var/media."))
    name = models.CharField(_("file name"), max_length=200, blank=True)
    #: Who uploaded it: nobody else may send it.
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    url = models.CharField(_("source"), max_length=2000, blank=True)
    #: What the message that wants it may carry: a kind of messaging.kinds.
    kind = models.CharField(max_length=12, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True, db_index=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("media file")
        verbose_name_plural = _("media files")
        ordering = ["-id"]
        indexes = [models.Index(fields=["state"], name="media_by_state")]

    def __str__(self) -> str:
        return self.name or f"{self.mime} {self.size}"

    @classmethod
    def store(cls, data: bytes, mime: str, name: str = "", api_key: ApiKey | None = None) -> Media:
        """Write the bytes down and return their row, a new one for each call."""
        return cls.objects.create(mime=mime[:120], name=name[:200], api_key=api_key, **written(data))

    @property
    def file(self) -> Path:
        """Return where the bytes are."""
        return Path(settings.MEDIA_DIR) / self.path

    def read(self) -> bytes:
        """Return the bytes. Raises OSError when the file is gone."""
        return self.file.read_bytes()

    def fetched(self, data: bytes, mime: str) -> None:
        """Keep what its URL gave."""
        for field, value in written(data).items():
            setattr(self, field, value)
        self.mime, self.state, self.next_at = mime[:120], MediaState.STORED, None
        self.save(update_fields=["sha256", "size", "path", "mime", "state", "next_at"])


def written(data: bytes) -> dict[str, str | int]:
    """Put the bytes where their hash says, durably, and return the fields that describe them."""
    digest = hashlib.sha256(data).hexdigest()
    path = f"{digest[:2]}/{digest}"
    file = Path(settings.MEDIA_DIR) / path
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = file.with_name(f"{digest}.{uuid.uuid4().hex}.part")
        with part.open("wb") as handle:
            part.chmod(0o600)
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())  # the row that promises the bytes may be committed right after
        part.replace(file)
    return {"sha256": digest, "size": len(data), "path": path}


def unused(before: datetime) -> models.QuerySet[Media]:
    """Return the media made before a time that no message refers to."""
    return Media.objects.filter(created_at__lt=before, messages=None)
