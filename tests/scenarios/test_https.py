"""The whole system by HTTPS with an authority of one's own: console, API, model API, a renewal, and plain HTTP."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.gateway.harness import until
from tests.scenarios.up import started

from sublet.accounts.service import Accounts
from sublet.client.clients import Client
from sublet.config.settings import Settings
from sublet.store import Store
from sublet.story.demo import write_settings
from sublet.tls.authority import Authority
from sublet.values.errors import UnavailableError

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def operator_key(settings: Settings) -> str:
    store = Store(settings.database_url)
    try:
        accounts = Accounts(store)
        (operator,) = [each for each in accounts.organizations() if each.kind == "operator"]
        return accounts.create_key(operator.id, "https")[1]
    finally:
        store.close()


def test_console_and_both_apis_speak_https_alone(folder: Path) -> None:
    authority = Authority(folder / "tls")
    first = authority.create(["localhost", "127.0.0.1"], datetime.now(UTC))
    config = write_settings(folder)
    files = f'certificate = "{authority.certificate}"\nprivate_key = "{authority.private_key}"\n'
    config.write_text(f'{config.read_text()}\n[models]\ndefault = ""\n\n[tls]\n{files}')
    with started(config) as up:
        control, gateway = up.address("control"), up.address("gateway")
        assert control.startswith("https://127.0.0.1:") and gateway.startswith("https://127.0.0.1:")
        ours, key = str(authority.trusted), operator_key(up.settings)
        with Client(control, key, ca_file=ours) as client:
            assert client.document("accounts.whoami")["role"] == "operator"
        with Client(control, key) as stranger, pytest.raises(UnavailableError, match="not trusted"):
            stranger.document("accounts.whoami")
        with httpx2.Client(verify=ssl.create_default_context(cafile=ours)) as http:
            asked: Any = {"url": f"{gateway}/v1/models", "headers": {"Authorization": f"Bearer {key}"}}
            until(lambda: http.get(**asked).status_code == 200)  # the gateway knows a new key within a second
            assert http.get(**asked).json()["data"] == []
            page = http.post(f"{control}/login", data={"key": key}, headers={"Origin": control}, follow_redirects=False)
            cookie = page.headers["set-cookie"]
            assert page.status_code == 303 and "Secure" in cookie and "HttpOnly" in cookie
            assert http.get(f"{control}/").status_code == 200
        with httpx2.Client() as plain, pytest.raises(httpx2.HTTPError):
            plain.get(f"http{control.removeprefix('https')}/health")
        assert authority.renew(datetime.now(UTC)).sha256 != first.sha256
