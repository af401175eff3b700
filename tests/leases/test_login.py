"""From a lease to a shell: which key, which host key, what stands in the configuration of ssh, and what an interruption leaves."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.leases.test_commands import Customer
from tests.leases.test_commands import alice as alice
from tests.leases.world import KEY, World, pool_spec

from sublet.commands import taking
from sublet.commands.leases import usual_pool
from sublet.conformance.backends import OTHER_SSH_KEY, SSH_KEY
from sublet.leases import login, ssh_config
from sublet.leases.model import WrongStateError
from sublet.values.errors import InvalidInputError, NotFoundError, UnavailableError

DOOR: dict[str, Any] = {
    "host": "rent.example.com", "port": 22001, "user": "tenant", "host_key": " ".join(SSH_KEY.split()[:2]),
    "fingerprint": "SHA256:x",
}  # fmt: skip
LEASE = "lse_0123456789abcdef01234567"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "a person's 100% home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return place


def pair(folder: Path, name: str = "work") -> Path:
    """A key pair; the public file."""
    path = folder / name
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    path.with_name(f"{name}.pub").write_text(SSH_KEY + "\n")
    return path.with_name(f"{name}.pub")


def test_the_line_to_copy_has_the_key_the_alias_and_the_host_key(home: Path) -> None:
    key = login.client_key(pair(home))
    line = login.command_line(LEASE, DOOR, key.identity)
    words = shlex.split(line)
    assert words[0] == "ssh" and words[-1] == "tenant@rent.example.com" and words[words.index("-p") + 1] == "22001"
    assert f"HostKeyAlias={LEASE}" in words and "StrictHostKeyChecking=yes" in words and "IdentitiesOnly=yes" in words
    settings = resolved([*words[1:-1], "-F", "none", words[-1]])
    assert settings["identityfile"] == [str(home / "work")]
    known = settings["userknownhostsfile"][0]
    assert Path(known).read_text() == f"{LEASE} {DOOR['host_key']}\n"


def resolved(words: list[str]) -> dict[str, list[str]]:
    """What OpenSSH itself makes of its arguments, without connecting."""
    done = subprocess.run(["ssh", "-G", *words], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value.strip('"').replace("%%", "%"))
    return found


def test_a_plain_path_is_given_with_dash_i(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    identity = login.client_key(pair(tmp_path)).identity
    assert f"-i {identity}" in login.command_line(LEASE, DOOR, identity)


def test_ssh_knows_a_lease_by_its_name_once_the_file_is_included(home: Path) -> None:
    config = home / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text("Host other\n  User me\n")
    ssh_config.write_host(LEASE, DOOR, login.client_key(pair(home)).identity)
    assert ssh_config.install() and not ssh_config.install()
    assert config.read_text() == f"{ssh_config.include_line()}\n\nHost other\n  User me\n"
    found = resolved(["-F", str(config), LEASE])
    assert (found["hostname"], found["port"], found["user"]) == (["rent.example.com"], ["22001"], ["tenant"])
    assert found["identityfile"] == [str(home / "work")] and found["hostkeyalias"] == [LEASE]
    assert resolved(["-F", str(config), "other"])["user"] == ["me"]
    ssh_config.forget_all_but(frozenset())
    assert resolved(["-F", str(config), LEASE])["hostname"] == [LEASE]


def test_a_configuration_that_is_a_link_stays_one(home: Path, tmp_path: Path) -> None:
    real, config = tmp_path / "dotfiles", home / ".ssh" / "config"
    real.write_text("Host other\n")
    config.parent.mkdir()
    config.symlink_to(real)
    assert ssh_config.install()
    assert config.is_symlink() and real.read_text().endswith("Host other\n")


@pytest.mark.parametrize(
    "change",
    [
        {"host": "-oProxyCommand=touch /tmp/x"}, {"host": "a\n  ProxyCommand touch x"}, {"host": "a b"}, {"host": "`x`"},
        {"host": ""}, {"user": "-l"}, {"user": "me\n ProxyCommand x"}, {"user": "root;x"}, {"port": "22"}, {"port": 0},
        {"port": 70_000}, {"host_key": "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB"}, {"host_key": "@cert-authority * x"},
        {"host_key": None},
    ],
)  # fmt: skip
def test_a_service_that_names_no_address_runs_nothing_here(home: Path, change: dict[str, Any]) -> None:
    for use in (login.ssh_arguments, lambda lease, door: ssh_config.write_host(lease, door, None)):
        with pytest.raises(UnavailableError):
            use(LEASE, {**DOOR, **change})
    assert not (home / ".config").exists()


@pytest.mark.parametrize("name", ["../x", "lse_../../x", "lse_", "lse_a b", "lse_a\nHost *"])
def test_an_id_that_is_none_names_no_file(home: Path, name: str) -> None:
    with pytest.raises(InvalidInputError):
        ssh_config.write_host(name, DOOR, None)
    assert not (home / ".config").exists()


def test_the_key_of_a_lease_is_remembered_and_else_found_among_its_keys(home: Path) -> None:
    login.remember(LEASE, login.client_key(pair(home)))
    assert login.identity_of(LEASE) == home / "work"
    (home / "work").unlink()
    assert login.identity_of(LEASE, [OTHER_SSH_KEY]) is None
    (home / ".ssh").mkdir()
    pair(home / ".ssh", "id_ed25519")
    assert login.identity_of(LEASE, [KEY, f"{' '.join(SSH_KEY.split()[:2])} other comment"]) == home / ".ssh/id_ed25519"


def test_a_public_key_without_its_private_one_is_asked_of_the_agent(home: Path) -> None:
    public = home / "token.pub"
    public.write_text(SSH_KEY)
    assert login.client_key(public).identity == public


def test_lease_ssh_uses_the_key_that_the_lease_was_taken_with(alice: Customer, tmp_path: Path) -> None:
    alice.take()
    alice.types("ssh", exit_code=7)
    assert alice.shell.identity == alice.key_file
    other = pair(tmp_path)
    alice.types("ssh", "--key", str(other), exit_code=7)
    alice.types("ssh", exit_code=7)
    assert alice.shell.identity == tmp_path / "work"


def test_keys_of_a_running_lease_are_changed_and_reach_where_it_runs(
    alice: Customer, world: World, tmp_path: Path
) -> None:
    lease = alice.take()
    other = pair(tmp_path)
    assert "conformance" in alice.types("keys", "--add", str(other))
    world.run(2)
    assert world.backend.observe(lease).keys == world.backend.observe_all()[lease].keys
    assert world.leases.lease(lease).ssh_public_keys == (KEY, SSH_KEY)
    assert not [step for step in world.leases.plan().steps if step.kind == "set_keys"]
    listed = json.loads(alice.types("keys", "--remove", "someone@example", "--json"))
    assert listed["ssh_public_keys"] == [SSH_KEY]
    assert [step.kind for step in world.leases.plan().steps if step.subject == lease] == ["set_keys"]
    world.run(1)
    assert world.backend.observe(lease).keys is not None
    history = json.loads(alice.types("show", lease, "--json"))["history"]
    assert any("one SSH key may log in" in item["reason"] for item in history)
    with pytest.raises(InvalidInputError, match="nobody could log in"):
        alice.types("keys", lease, "--remove", str(other))
    with pytest.raises(NotFoundError, match="has no key"):
        alice.types("keys", lease, "--remove", "SHA256:nothing")


def test_nobody_changes_the_keys_of_anothers_lease_or_of_one_that_is_over(alice: Customer, world: World) -> None:
    lease = alice.take()
    path, body = f"/v1/leases/{lease}/ssh-keys", {"ssh_public_keys": [SSH_KEY]}
    assert alice.site.call("bob", "PUT", path, body)[0] == 404
    assert alice.site.call("bob", "GET", path)[0] == 404
    injected = {"ssh_public_keys": [f'command="sh" {SSH_KEY}']}
    assert alice.site.call("alice", "PUT", path, injected)[0] == 400
    assert world.leases.lease(lease).ssh_public_keys == (KEY,)
    alice.types("end", lease)
    with pytest.raises(WrongStateError):
        world.leases.set_ssh_keys(lease, [SSH_KEY])


def test_a_request_without_a_pool_takes_one_that_can_be_logged_in_to(alice: Customer, world: World) -> None:
    class Remote:
        def collected(self, operation: str) -> dict[str, Any]:
            return {"pools": [pool.as_dict() for pool in world.fleet.pools()]}

    simulated = world.pool.id
    assert usual_pool(Remote()) == simulated  # type: ignore[arg-type]
    world.fleet.sync([pool_spec("metal", 4), pool_spec("zeta", 1, backend="local")])
    assert usual_pool(Remote()) == next(pool.id for pool in world.fleet.pools() if pool.name == "zeta")  # type: ignore[arg-type]


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("answer", ["", "n", "y"])
def test_ctrl_c_while_the_lease_starts_says_what_goes_on_and_offers_to_give_it_back(
    alice: Customer, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sublet.commands.leases.wait_ready", interrupted)
    if answer:
        monkeypatch.setattr(taking, "_may_ask", lambda: True)
        monkeypatch.setattr("typer.confirm", lambda *_, **__: answer == "y")
    said = alice.types("take", "--key", str(alice.key_file), exit_code=130)
    [lease] = alice.world.leases.leases()
    assert f"lease {lease.id} keeps running: 1 accelerator as notice until" in said and "for at most 2.00 USD" in said
    if answer == "y":
        assert alice.world.lease(lease).state == "canceled" and f"{lease.id} is canceled" in said
    else:
        assert alice.world.lease(lease).state == "scheduled" and f"sublet lease end {lease.id}" in said


@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_while_the_quote_is_accepted_leaves_no_unknown_lease(
    alice: Customer, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    from sublet.commands import leases as commands

    real = commands._accept

    def accept(*told: Any) -> Any:
        if after:
            real(*told)
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_accept", accept)
    said = alice.types("take", "--key", str(alice.key_file), exit_code=130)
    if after:
        [lease] = alice.world.leases.leases()
        assert f"lease {lease.id} keeps running" in said
    else:
        assert "nothing was taken, and the quote is canceled" in said
        organization = alice.world.leases.leases()
        assert organization == []
