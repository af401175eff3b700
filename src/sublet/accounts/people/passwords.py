"""Passwords: which are accepted, and how they are kept (Argon2id, RFC 9106)."""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from functools import cache

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sublet.values.errors import InvalidInputError, UnavailableError

LENGTH_MIN = 10
LENGTH_MAX = 128
ITERATIONS = 2
MEMORY_KIB = 19_456
LANES = 1
_SALT_BYTES = 16
_HASH_BYTES = 32
_AT_ONCE = 2
_WAITING_MAX = 32
_WAIT_S_MAX = 10

_AT_WORK = threading.BoundedSemaphore(_AT_ONCE)
"""Each hash takes MEMORY_KIB, so a flood of sign-ins may not run them all at once."""
_WAITING = threading.BoundedSemaphore(_WAITING_MAX)

COMMON = frozenset(
    """
    1234567890 12345678910 0123456789 9876543210 1q2w3e4r5t 1qaz2wsx3edc qwertyuiop qwerty12345 qwerty123456 asdfghjkl1 zxcvbnm123
    password12 password123 password1234 password12345 passw0rd12 passw0rd123 p@ssw0rd123 p@ssword123 password!1 passwordpassword
    iloveyou12 iloveyou123 ilovemyself sunshine12 sunshine123 football12 football123 baseball12 baseball123 superman12 superman123
    letmein123 letmein1234 welcome123 welcome1234 welcome2024 welcome2025 welcome2026 changeme123 changeme1234 pleasechangeme
    administrator admin12345 admin123456 adminadmin rootroot123 root123456 toor123456 test123456 testtest123 testing123 user123456
    monkey1234 monkey12345 dragon1234 dragon12345 master1234 master12345 shadow1234 princess12 princess123 michael123 jennifer123
    trustno1123 starwars123 whatever123 computer123 internet123 samsung123 liverpool1 liverpool123 manchester chocolate1 chocolate12
    basketball basketball1 watermelon strawberry butterfly1 butterfly12 qazwsxedcr 1234qwerasdf qwerasdfzxcv abcd123456 abcdefghij
    abc1234567 a123456789 aa123456789 a1b2c3d4e5 11223344556 1122334455 0987654321 1472583690 qweasdzxc123
    correcthorsebatterystaple
    summer2024 summer2025 summer2026 winter2024 winter2025 winter2026 spring2025 spring2026 autumn2025 autumn2026 company123
    """.split()
)
"""The most used passwords of LENGTH_MIN characters and more, and what people type when they are told to take a longer one."""
_ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")


def checked_password(password: str, *, email: str, name: str = "") -> str:
    """A new password as it is kept. Raises InvalidInputError that says what is wrong and never repeats it."""
    password = unicodedata.normalize("NFC", password)
    if len(password) < LENGTH_MIN:
        raise InvalidInputError(f"use a password of at least {LENGTH_MIN} characters, such as several words")
    if len(password) > LENGTH_MAX:
        raise InvalidInputError(f"use a password of at most {LENGTH_MAX} characters")
    plain = password.lower()
    letters = re.sub(r"[\W_]+", "", plain)
    own = [email.lower(), email.partition("@")[0].lower(), *name.lower().split(), "sublet"]
    bare = letters
    for word in own:
        if len(word) >= 4:
            bare = bare.replace(re.sub(r"[\W_]+", "", word), "")
    if plain in COMMON or letters in COMMON or len(set(plain)) < 4 or _is_a_row(letters):
        raise InvalidInputError("this password is too common; choose a different one")
    if len(bare) < 4 < len(letters):
        raise InvalidInputError("the password must not be your name or address; choose a different one")
    return password


def hashed(password: str) -> str:
    """The PHC text of a password. Raises UnavailableError where too many wait."""
    kind = Argon2id(
        salt=os.urandom(_SALT_BYTES), length=_HASH_BYTES, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB
    )
    with _Turn():
        return kind.derive_phc_encoded(_bytes(password))


def fits(password: str, stored: str | None) -> bool:
    """Whether a password is the stored one; without a stored one, False after just as long. Raises UnavailableError where too
    many wait."""
    if len(password) > LENGTH_MAX:
        password = ""
    with _Turn():
        try:
            Argon2id.verify_phc_encoded(_bytes(password), stored or _nobodys())
        except InvalidKey:
            return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return f"$m={MEMORY_KIB},t={ITERATIONS},p={LANES}$" not in stored


@cache
def _nobodys() -> str:
    return Argon2id(
        salt=os.urandom(_SALT_BYTES), length=_HASH_BYTES, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB
    ).derive_phc_encoded(os.urandom(_HASH_BYTES))


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _is_a_row(letters: str) -> bool:
    return any(letters in 2 * row or letters in 2 * row[::-1] for row in _ROWS)


class _Turn:
    """One of the few hashes that may be at work."""

    def __enter__(self) -> None:
        if not _WAITING.acquire(blocking=False):
            raise UnavailableError(
                "too many people are signing in at the moment; try again in a few seconds", retry_after_s=5
            )
        try:
            if not _AT_WORK.acquire(timeout=_WAIT_S_MAX):
                raise UnavailableError(
                    "too many people are signing in at the moment; try again in a few seconds", retry_after_s=5
                )
        finally:
            _WAITING.release()

    def __exit__(self, *error: object) -> None:
        _AT_WORK.release()
