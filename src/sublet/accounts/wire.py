"""Organizations and keys as they cross the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, body

Scope = Annotated[str, MaxLen(40), LINE]


@body
class NewOrganization:
    """An organization to create. Its currency stays for life."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE]
    kind: Annotated[str, MaxLen(16), LINE] = "customer"
    currency: Annotated[str, MaxLen(3), LINE] = "USD"
    timezone: Annotated[str, MaxLen(64), LINE] = "UTC"


@body
class NewKey:
    """A key to create for an organization."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE] = "default"
    role: Annotated[str, MaxLen(32), LINE] = ""
    scopes: Annotated[list[Scope], MaxLen(16)] | None = None
    expires_at: Moment | None = None
    project: Annotated[str, MaxLen(80), LINE] = ""
