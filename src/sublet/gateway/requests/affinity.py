"""Which replica a prompt goes to, so that the cache of its engine has read how it begins.

Prompts that begin alike have the same favorite among the replicas of a model: the one with the highest score by a hash of the
beginning and the replica's id (weighted rendezvous hashing), so that only the share of a replica that comes or goes moves. Load comes
first: a favorite that is much fuller than the others is passed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import log
from zlib import crc32

from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import ChatRequest, EmbeddingRequest, Text

PREFIX_BYTES = 2048
"""How much of a prompt's beginning counts. Shorter prompts have no favorite: there is little to save."""
FULLER_MAX = 0.5
"""A favorite may have so much more of its slots taken than the least loaded replica."""


def prefix_of(call: Call) -> int:
    """A number for how the prompt begins; 0 where it is too short to matter."""
    asked = call.asked
    if isinstance(asked, ChatRequest):
        found = _beginning(text.text for turn in asked.turns for text in turn.parts if isinstance(text, Text))
    else:
        found = b"" if isinstance(asked, EmbeddingRequest) else asked.beginning(PREFIX_BYTES)
    return crc32(found) or 1 if len(found) >= PREFIX_BYTES else 0


def favorite_of(prefix: int, sizes: Mapping[str, float]) -> str:
    """The replica that prompts with this beginning go to; of many beginnings each gets a part in proportion to its size."""
    return max(sizes, key=lambda name: (-sizes[name] / log(_share(prefix, name)), name))


def _share(prefix: int, name: str) -> float:
    """A number between 0 and 1. A checksum would not do: those of two names differ by the same bits for every beginning."""
    digest = blake2b(name.encode(), digest_size=6, key=prefix.to_bytes(4, "big")).digest()
    return (int.from_bytes(digest, "big") + 1) / (2**48 + 1)


def _beginning(texts: Iterable[str]) -> bytes:
    found = b""
    for text in texts:
        found += text[: PREFIX_BYTES - len(found)].encode(errors="replace")
        if len(found) >= PREFIX_BYTES:
            break
    return found[:PREFIX_BYTES]
