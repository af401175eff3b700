"""What is mistyped in a job is refused before anything is sent: no price is asked for, and no private key leaves the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.leases.world import KEY

from sublet.commands import jobs
from sublet.values.errors import InvalidInputError


@pytest.fixture(autouse=True)
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect() -> None:
        raise AssertionError("nothing may be sent")

    monkeypatch.setattr(jobs, "connect", connect)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n", "is a private key"),
        (b"\xff\xfe" + KEY.encode(), "can't be read"),
        (None, "can't be read"),
    ],
)
def test_a_file_that_is_no_public_key_is_not_sent(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "id"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        jobs.submit(["true"], key=path)


@pytest.mark.parametrize(("wrong", "said"), [({"env": ["BAD"]}, "NAME=VALUE"), ({"array": "5-0"}, "no range")])
def test_what_is_mistyped_is_refused_before_a_price_is_asked_for(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        jobs.submit(["true"], **wrong)  # type: ignore[arg-type]
