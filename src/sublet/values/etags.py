"""Entity tags: what names one state of a thing, and the conditions that a request puts on it (RFC 9110, sections 8.8.3 and 13.1).

A tag is derived from the document that the API shows, so two documents that differ have different tags.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sublet.values.errors import InvalidInputError, SubletError

TAGS_MAX = 50
CHARACTERS_MAX = 4_000
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t]*(?:{_TAG})?(?:[ \t]*,[ \t]*(?:{_TAG})?)*[ \t]*")
_ONE = re.compile(_TAG)


class PreconditionFailedError(SubletError):
    """It has changed since you read it; read it again, and send your change with the new ETag."""

    code = "precondition_failed"
    status = 412


def tag_of(document: Any) -> str:
    """The tag of a document, quoted as headers write it."""
    told = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Condition:
    """The tags of an If-Match or If-None-Match header: None where there is no header, `*` alone for any state."""

    tags: frozenset[str] | None = None

    @classmethod
    def read(cls, name: str, values: Sequence[str]) -> Condition:
        """From the header's values, of which there may be several. Raises InvalidInputError for what is no list of tags."""
        if not values:
            return cls()
        text = ",".join(values)
        if text.strip() == "*":
            return cls(frozenset({"*"}))
        found = _ONE.findall(text) if len(text) <= CHARACTERS_MAX and _LIST.fullmatch(text) else []
        if not 1 <= len(found) <= TAGS_MAX:
            raise InvalidInputError(
                f'{name} must be * or 1 to {TAGS_MAX} tags in quotes, such as "abc", "def"', field=name
            )
        return cls(frozenset(found))

    def require(self, document: Any) -> None:
        """As If-Match, on the state that is about to be changed. A weak tag never matches, for it does not name one state.
        Raises PreconditionFailedError with the present tag."""
        if self.tags is None or "*" in self.tags:
            return
        present = tag_of(document)
        if present not in self.tags:
            raise PreconditionFailedError(etag=present)

    def holds(self, tag: str) -> bool:
        """As If-None-Match: whether the caller has this state already. A weak tag will do."""
        return self.tags is not None and ("*" in self.tags or tag in {known.removeprefix("W/") for known in self.tags})


ANY_STATE = Condition()
"""No condition: anyone who sends no If-Match changes whatever there is."""
