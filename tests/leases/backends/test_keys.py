"""Public keys from outside: one line each, of a known type, without options, whatever their comments hold."""

from __future__ import annotations

import pytest
from tests.leases.world import KEY

from sublet.leases.backends.base import KEY_COMMENT_MAX, checked_authorized_keys
from sublet.values.errors import InvalidInputError

KIND, BLOB = KEY.split()[:2]
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0"]
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO60M/2O25imdiXUWHNEPX+zY9+15wAl3qvkRH7xFcm6"


@pytest.mark.parametrize("break_", BREAKS)
@pytest.mark.parametrize(
    "place", ["{kind} {blob} me{break_}{other}", "{kind}{break_}{blob}", "{kind} {blob}{break_}{other}"]
)
def test_a_second_line_is_refused_whatever_breaks_it(break_: str, place: str) -> None:
    with pytest.raises(InvalidInputError):
        checked_authorized_keys((place.format(kind=KIND, blob=BLOB, break_=break_, other=OTHER),))


@pytest.mark.parametrize(
    "line",
    [
        f'command="sh" {KIND} {BLOB}', f"restrict {KIND} {BLOB}", f'environment="LD_PRELOAD=/x" {KIND} {BLOB}',
        f"cert-authority {KIND} {BLOB}", f"@revoked {KIND} {BLOB}", f"# {KIND} {BLOB}", f"* {KIND} {BLOB}",
        f"ssh-dss {BLOB}", f"{KIND} {BLOB[:-8]}!", f"{KIND} {'A' * 9000}", f"{KIND} {BLOB} {'x' * 20_000}", KIND, "",
        "ssh-ed25519-cert-v01@openssh.com AAAA",
    ],
)  # fmt: skip
def test_options_other_types_and_broken_keys_are_refused(line: str) -> None:
    with pytest.raises(InvalidInputError):
        checked_authorized_keys((line,))


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ("Jos\u0065\u0301 @ laptop", "Jos\u00e9 @ laptop"), ("\u202eevil\u202c", "evil"), ("a\x1b[31mb", "a[31mb"),
        ("x" * 500, "x" * KEY_COMMENT_MAX), ("q" + "\u0323" * 400, "q" + "\u0323" * 8), ("می‌خواهم", "می‌خواهم"), ("\u3164", ""),
    ],
)  # fmt: skip
def test_a_comment_is_cleaned_and_never_a_reason_to_refuse(comment: str, kept: str) -> None:
    [line] = checked_authorized_keys((f"{KIND} {BLOB} {comment}",))
    assert line == f"{KIND} {BLOB} {kept}".strip()
    assert len(line.splitlines()) == 1
