"""The support bundle: what is in it, and that no secret of the settings and nobody's address is."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sublet.accounts.people.service import People
from sublet.accounts.service import Accounts
from sublet.config.settings import Settings
from sublet.launch.support import LOG_BYTES_MAX, Redaction, bundle
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.errors import ConflictError

KEY = "sublet_" + "k" * 43
SECRETS = {
    "mail": "hunter2 hunter2",
    "client": "a-client-secret",
    "in a file": "kept-in-a-file",
    "sealing": "c2VhbGluZy1rZXktb2YtMzItYnl0ZXMtaW4tYmFzZTY0",
    "option": "an-option-of-a-backend",
    "database": "db-pass-word",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "client-secret").write_text(SECRETS["in a file"] + "\n")
    provider = {"issuer": "https://idp.test", "client_id": "c", "domains": ["acme.test"]}
    return Settings.model_validate(
        {
            "data_dir": tmp_path,
            "control": {"public_url": "https://sublet.test"},
            "mail": {"host": "mail.test", "sender": "sublet@acme.test", "password": SECRETS["mail"]},
            "secrets": {"key": SECRETS["sealing"]},
            "oidc": {
                "one": {**provider, "client_secret": SECRETS["client"]},
                "two": {**provider, "client_secret_file": str(tmp_path / "client-secret")},
            },
            "backends": {"far": {"kind": "slurm", "options": {"api_token": SECRETS["option"]}}},
        }
    )


def files_in(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            item.name.removeprefix("sublet-support/"): archive.extractfile(item).read().decode()  # type: ignore[union-attr]
            for item in archive
        }


def test_a_bundle_says_much_and_gives_nothing_away(settings: Settings, tmp_path: Path) -> None:
    store = Store(settings.database_url)
    migrate(store)
    accounts = Accounts(store)
    acme = accounts.create_organization("acme")
    People(accounts).invite(acme, "ada@acme.test", "customer_admin", "k")
    store.close()
    folder = tmp_path / "logs"
    folder.mkdir()
    told: list[str] = [
        *(word for name, word in SECRETS.items() if name != "database"),
        KEY,
        "ada@acme.test",
        "192.0.2.77",
    ]
    lines = [json.dumps({"event": "broke", "reason": f"because of {word} here"}) for word in told]
    lines += [
        "GET /join?secret=abcdefgh HTTP",
        "Authorization: Bearer abcdefgh-ijkl",
        f"https://ada:{SECRETS['database']}@db.test/x",
    ]
    (folder / "control.log").write_text("x" * 2 * LOG_BYTES_MAX + KEY + "\n" + "\n".join(lines) + "\n")
    out = tmp_path / "bundle.tar.gz"
    names = bundle(settings, out)
    found = files_in(out)
    assert (
        set(names)
        == set(found)
        == {"versions.json", "settings.json", "doctor.json", "database.json", "logs/control.log"}
    )
    whole = "\n".join(found.values())
    for word in (*told[:-1], "192.0.2.77", "abcdefgh", "ada:", "sublet@acme", SECRETS["database"]):
        assert word not in whole, word
    assert "192.0.2.x" in whole and "because of" in found["logs/control.log"]
    database: dict[str, Any] = json.loads(found["database.json"])
    assert database["rows"]["organizations"] == 1 and database["rows"]["invitations"] == 1 and database["revision"]
    assert json.loads(found["settings.json"])["oidc"]["one"]["issuer"] == "https://idp.test"
    assert json.loads(found["versions.json"])["packages"]["sqlalchemy"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with pytest.raises(ConflictError, match="already exists"):
        bundle(settings, out)


def test_a_bundle_of_an_empty_machine_is_whole(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path / "nothing"})
    names = bundle(settings, tmp_path / "b.tar.gz")
    assert "there is no database yet" in files_in(tmp_path / "b.tar.gz")["database.json"] and len(names) == 4
    assert not (tmp_path / "nothing").exists(), "looking leaves nothing behind"


def test_what_is_no_secret_stays(settings: Settings) -> None:
    far = Settings.model_validate({"database": {"url": f"postgresql://ada:{SECRETS['database']}@db.test/x"}})
    assert Redaction(far).text(f"the password is {SECRETS['database']}") == "the password is [redacted]"
    redaction = Redaction(settings)
    for text in (
        "lease lse_0123456789 ended",
        "took 1.2.3 s on 127.0.0.1:8080",
        "see https://docs.test/a?b=c",
        "10:00:00Z",
    ):
        assert redaction.text(text) == text
