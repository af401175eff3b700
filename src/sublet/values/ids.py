"""Ids say what they are: a prefix, an underscore, and 120 random bits in Crockford's base 32."""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS = 24

PREFIXES = {
    "org": "organization",
    "key": "API key",
    "per": "person",
    "ivt": "invitation",
    "ses": "session",
    "psk": "passkey of a person",
    "sva": "service account",
    "att": "attempt to sign in",
    "let": "letter to a person",
    "pool": "pool",
    "unit": "accelerator",
    "nod": "node",
    "prc": "process",
    "smp": "demand sample",
    "clm": "internal claim",
    "imp": "import of history",
    "blk": "block",
    "mnt": "window of maintenance",
    "quo": "quote",
    "wtl": "request on the waiting list",
    "vol": "volume",
    "cpy": "copy into a volume",
    "snp": "snapshot of a volume",
    "lse": "lease",
    "job": "job that a lease runs",
    "arr": "array of jobs",
    "img": "image of a root file system",
    "dep": "deployment of a model",
    "rep": "replica of a deployment",
    "req": "request to the model API",
    "file": "file of a customer",
    "batch": "batch of requests to the model API",
    "evt": "usage event",
    "txn": "ledger transaction",
    "pst": "posting",
    "inv": "invoice",
    "crd": "credit",
    "crn": "credit note",
    "con": "what a credit note takes off a line",
    "wof": "write-off",
    "pln": "plan",
    "pls": "subscription to a plan",
    "hld": "hold on credit or budget",
    "bud": "budget",
    "lim": "limit of the model API",
    "whk": "delivery of an event",
    "sub": "subscription to events",
    "oev": "event of the outbox",
}


def is_id(text: str) -> bool:
    """Whether `text` is what an id looks like, whatever of."""
    prefix, _, rest = text.partition("_")
    return prefix in PREFIXES and len(rest) == _DIGITS and set(rest) <= set(_ALPHABET)


def new_id(prefix: str) -> str:
    """A new random id with `prefix`, which must be one of PREFIXES."""
    if prefix not in PREFIXES:
        raise ValueError(f"{prefix!r} is not a known id prefix")
    return f"{prefix}_{_encode(secrets.randbits(120))}"


def derived_id(prefix: str, *parts: str) -> str:
    """The same id for the same parts, always: what makes a retry harmless (SHA-256 of the parts, 120 bits).

    Each part goes in with its length, so that no two lists of parts run together into the same text.
    """
    if prefix not in PREFIXES:
        raise ValueError(f"{prefix!r} is not a known id prefix")
    digest = hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).digest()
    return f"{prefix}_{_encode(int.from_bytes(digest[:15], 'big'))}"


def _encode(number: int) -> str:
    digits = []
    for _ in range(_DIGITS):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))
