"""Files: uploaded for sending, and fetched by a signed address that expires."""

from __future__ import annotations

from typing import Annotated, Any

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from ninja import File, Router, Status
from ninja.files import UploadedFile
from pydantic import Field

from messaging.accept import put_aside
from messaging.api.auth import SEND, key_of
from messaging.api.problems import documented
from messaging.api.schemas import MediaOut
from messaging.errors import Refused
from messaging.models import Media, MediaState
from messaging.rendering import media_body
from messaging.signed_urls import media_of, signed

router = Router(tags=["media"])

#: Shown in a browser; everything else is a download, so that nothing runs on our origin.
_INLINE = ("image/jpeg", "image/png", "image/webp", "image/gif", "audio/", "video/")


@router.post("/media", auth=SEND, response={201: MediaOut, **documented(415)}, summary="Upload a file")
def upload(
    request: HttpRequest, file: Annotated[UploadedFile, File(description="The file, as multipart/form-data.")]
) -> Any:  # fmt: skip
    """Send it with a message by its `id`; only the key that uploaded it can."""
    return Status(201, signed(media_body(put_aside(file, key_of(request)))))


@router.get("/media/{token}", auth=None, response={200: bytes, **documented(410)}, summary="Download a file",
            openapi_extra={"responses": {200: {"content": {"application/octet-stream": {}}}}})  # fmt: skip
def download(request: HttpRequest, token: Annotated[str, Field(max_length=200)]) -> HttpResponse:
    """The address comes from a message's `media.url`; it carries its own permission and expires."""
    try:
        pk = media_of(token)
    except signing.SignatureExpired:
        raise Refused("media_expired") from None
    except signing.BadSignature:
        raise Refused("not_found") from None
    media = Media.objects.filter(pk=pk, state=MediaState.STORED).first()
    if media is None or not media.path:
        raise Refused("media_gone")
    try:
        answer = HttpResponse(media.read(), content_type=media.mime)
    except FileNotFoundError:
        raise Refused("media_gone") from None
    shown = content_disposition_header(not media.mime.startswith(_INLINE), media.name or media.sha256[:16])
    answer["Content-Disposition"] = shown or "attachment"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer["Cache-Control"] = "private, max-age=3600"
    return answer
