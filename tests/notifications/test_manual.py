"""The code in docs/notifications.md verifies what Sublet signs, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sublet.notifications.signing import new_secret, signed_headers

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
NOW = datetime(2026, 1, 5, tzinfo=UTC)
BODY = '{"type":"lease.ready","data":{"name":"ü"}}'.encode()


def code(language: str, holds: str) -> str:
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.S) if holds in text]
    return str(found)


def cases() -> list[tuple[bool, str, dict[str, str], bytes, float]]:
    secret, other, now = new_secret(), new_secret(), NOW.timestamp()
    good = signed_headers("oev_1", NOW, BODY, [secret])
    both = signed_headers("oev_1", NOW, BODY, [other, secret])
    return [
        (True, secret, good, BODY, now),
        (True, secret, both, BODY, now + 299),
        (False, other, good, BODY, now),
        (False, secret, good, BODY + b" ", now),
        (False, secret, good, BODY, now + 301),
        (False, secret, good, BODY, now - 301),
        (False, secret, good | {"webhook-id": "oev_2"}, BODY, now),
        (False, secret, good | {"webhook-timestamp": "soon"}, BODY, now),
        (False, secret, good | {"webhook-signature": "v1,"}, BODY, now),
    ]


def test_python() -> None:
    names: dict[str, Any] = {}
    exec(code("python", "def verified"), names)
    for expected, secret, headers, body, now in cases():
        assert names["verified"](secret, headers, body, now) is expected


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_node() -> None:
    given = [[secret, headers, body.decode(), now] for _, secret, headers, body, now in cases()]
    calls = "cases.map((c) => verified(c[0], c[1], Buffer.from(c[2]), c[3]))"
    run = (
        f"{code('js', 'function verified')}\nconst cases = {json.dumps(given)};\nconsole.log(JSON.stringify({calls}));"
    )
    done = subprocess.run(["node", "-e", run], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [expected for expected, *_ in cases()]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_openssl(tmp_path: Path) -> None:
    secret = new_secret()
    headers = signed_headers("oev_1", NOW, BODY, [secret])
    (tmp_path / "body.json").write_bytes(BODY)
    given = {"SECRET": secret, "ID": "oev_1", "STAMP": headers["webhook-timestamp"], "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", code("sh", "openssl dgst")], cwd=tmp_path, env=given, capture_output=True, text=True, check=True
    )
    assert f"v1,{done.stdout.strip()}" == headers["webhook-signature"]
