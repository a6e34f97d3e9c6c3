"""The root of the HTTP API: which routers there are, and its OpenAPI document."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from messaging.api import accounts, bulks, contacts, events, media, messages, problems, webhooks
from messaging.api.problems import CONTENT_TYPE, problem
from messaging.errors import Refused
from waserver import health_api

_DESCRIPTION = """
Send the key in the header `Authorization: Bearer wsk_…`; make one in the admin or with `manage.py create_api_key`.

Errors are problem details (RFC 9457): act on `code`, show `detail`. Lists come in pages: pass `next` as `cursor`.
Phone numbers are taken in any common form; with a + there is no doubt which country is meant.
Times are ISO 8601 with an offset.
"""


class Api(NinjaAPI):
    """NinjaAPI, whose document says that refusals are problem details."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Return the name clients are generated with."""
        return operation.view_func.__name__

    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        """Return the OpenAPI document."""
        schema = super().get_openapi_schema(**kwargs)
        for operations in schema["paths"].values():
            for operation in operations.values():
                for status, answer in operation["responses"].items():
                    content = answer.get("content", {})
                    if int(status) >= 400 and "application/json" in content:
                        answer["content"] = {CONTENT_TYPE: content["application/json"]}
        return schema


api = Api(title="waserver", version="1", description=_DESCRIPTION, urls_namespace="api", docs_url="/docs")
problems.install(api)
for router in (
    accounts.router, messages.router, media.router, bulks.router, contacts.router, events.router, webhooks.router,
    health_api.router,
):
    api.add_router("", router)


def nothing_here(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Answer what no operation takes."""
    return problem(Refused("not_found", "There is no such address; /api/v1/docs shows all."))
