"""What is looked at before a body is parsed: parsing holds the loop, and takes as long as the body has values, not bytes."""

from __future__ import annotations

from sublet.gateway.refusals import InvalidRequestError

SMALL_BYTES = 64 * 1024
"""A body up to this size is parsed in a millisecond or two whatever it holds."""
STRINGS_MAX = 65_536
BRACKETS_MAX = 262_144
"""Higher than for strings: brackets within texts can't be told from others without parsing."""


def check_structure(body: bytes) -> None:
    """Refuse a body with so many values that its parsing would hold up others. Raises InvalidRequestError.

    Long texts have no part in it: they are skipped at gigabytes a second.
    """
    if len(body) <= SMALL_BYTES:
        return
    # A quote within a text is escaped; of the others two belong to each text or name of a field.
    if body.count(b'"') - body.count(b'\\"') > 2 * STRINGS_MAX:
        raise InvalidRequestError(
            f"The body has more than {STRINGS_MAX:,} strings and names of fields; split it, or join short texts"
        )
    if body.count(b"[") + body.count(b"{") > BRACKETS_MAX:
        raise InvalidRequestError(f"The body has more than {BRACKETS_MAX:,} brackets ([ and {{); split it")
