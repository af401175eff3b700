"""Every remote verb works from another place with an address and a key alone, loads nothing heavy, and keeps only the
profile and which key opens which lease."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
import uvicorn
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.docs.manual import tool
from tests.leases.world import KEY

from sublet import cli
from sublet.conformance.backends import SSH_KEY
from sublet.values.clock import SystemClock, format_time

HEAVY = sorted(tool("startup").HEAVY)
MODULES_MAX = 360
"""That all commands together load in one process."""
DRIVER = Path(__file__).with_name("driver.py")
HERE = {
    "up", "down", "demo", "doctor", "status", "serve", "open", "login", "logout", "profile ls", "profile use",
    "admin backup", "admin restore", "admin prove", "admin copy", "admin migrate", "admin pull", "admin operator-key", "admin invite",
    "admin forget-passkeys", "support bundle", "tls init", "tls renew", "tls show",
    "admin rotate-secrets",
    "backtest", "models check", "prices check", "demand alibaba", "desk init", "desk new", "desk decide",
    "desk values", "desk explain", "desk report", "desk mc",
    "desk diff", "desk brief", "desk check", "desk formulas", "desk sensitivity", "ledger example",
}  # fmt: skip
"""What runs a system or computes on files: it is no remote verb."""
LOADS = {"demand prometheus", "demand sacct", "demand squeue"}
"""Remote verbs that read what another program wrote first, and load what that takes."""


LASTS = {"lease watch", "mcp", "notifications watch"}
"""They go on until they are interrupted, and have a test of their own."""


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """The service on a port of its own, over real HTTP."""
    server = uvicorn.Server(uvicorn.Config(service.api, port=0, log_config=None, lifespan="off"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and server.servers):
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def leaves() -> set[str]:
    """Every command by its words."""
    group = typer.main.get_command(cli.app)
    found: set[str] = set()

    def walk(command: Any, words: tuple[str, ...]) -> None:
        if not hasattr(command, "list_commands"):
            found.add(" ".join(words))
            return
        context = typer.Context(command)
        for name in command.list_commands(context):
            walk(command.get_command(context, name), (*words, name))

    walk(group, ())
    return found


def files_of(folder: Path, service: Service) -> dict[str, str]:
    """What a person has at hand: histories, prices, models, usage, a public key."""
    now = service.world.clock.now()
    rows = [f"{format_time(now - timedelta(hours=hour))},16,4" for hour in range(24)]
    usage = {
        "specversion": "1.0", "id": "1", "source": "s", "type": "sublet.usage.v1",
        "time": format_time(now - timedelta(minutes=5)),
        "data": {"organization": service.organizations["acme"], "meter": "tokens.input", "quantity": 2_000_000,
                 "dimensions": {"model": "m"}},
    }  # fmt: skip
    job = "|".join(["1", "g", "C", *(["2026-01-04T01:00:00"] * 2), "2026-01-04T03:00:00", "gres/gpu=4", "", "60", "a"])
    contents = {
        "history": "time,capacity,in_use\n" + "\n".join(rows) + "\n",
        "sacct": "JobIDRaw|User|State|Submit|Start|End|AllocTRES|ReqTRES|TimelimitRaw|Account\n" + job + "\n",
        "squeue": "8|gpu|PENDING|2026-01-04T02:00:00|N/A|N/A|gpu:8|1|1:00:00|nlp|Resources\n",
        "prices": (Path(__file__).parents[2] / "examples" / "prices.toml").read_text(),
        "models": '[[models]]\nname = "far"\nengine = "openai_url"\nsource = {url = "http://127.0.0.1:9/v1"}\n',
        "usage": json.dumps(usage) + "\n",
        "plan": 'id = "team"\ncurrency = "USD"\namount = "20"\n[[add_ons]]\nid = "support"\namount = "5"\n',
        "key": KEY + "\n",
        "other": SSH_KEY + "\n",
    }
    paths = {}
    for name, content in contents.items():
        path = folder / name
        path.write_text(content)
        paths[name] = str(path)
    return paths


def verbs(service: Service, at: dict[str, str], out: Path) -> list[tuple[str, dict[str, str]]]:
    """A command line for every remote verb, in an order in which most find something; `id=path` of what a later one needs."""
    pool = service.world.pool
    unit = service.system.fleet.units(pool.id)[0].id
    month = f"{service.world.clock.now():%Y-%m}"
    soon = format_time(service.world.clock.now() + timedelta(minutes=50))
    return [
        ("org create Delta --json", {"org": "id"}), ("org ls", {}), ("key create Delta --json", {"key": "id"}),
        ("key ls Delta", {}), ("key revoke {key}", {}),
        ("service-account create Delta ci --role customer_developer --json", {"service": "id"}),
        ("service-account ls Delta", {}), ("key create Delta --service-account ci --models m", {}), ("key ls Delta", {}),
        ("service-account rm {service}", {}), ("org suspend Delta", {}), ("org resume Delta", {}),
        ("audit ls", {}), ("audit export --format cef", {}), ("audit verify", {}),
        ("person invite Delta ada@example.com --role customer_admin --json", {"invitation": "id"}),
        ("person invitations Delta", {}), ("person uninvite {invitation}", {}), ("person ls Delta", {}),
        ("person role Delta per_1 customer_billing", {}), ("person remove Delta per_1", {}),
        ("limit set acme --rpm 60 --json", {"limit": "id"}), ("limit set acme --rpm 50 --spend 5", {}),
        ("limit ls acme", {}), ("limit rm {limit}", {}),
        ("node ls", {}), ("node forget gone", {}),
        (f"pool calendar {pool.name}", {}),
        ("pool ls", {}), (f"pool show {pool.name}", {}), (f"pool drain {unit} fan", {}), (f"pool restore {unit}", {}),
        ("pool quarantine", {}), (f"pool release {unit} wiped", {}),
        (f"demand import {pool.name} {at['history']}", {}), ("demand imports " + pool.name, {}), ("demand undo none", {}),
        (f"demand samples {pool.name}", {}), (f"demand forecast {pool.name}", {}),
        (f"demand claim {pool.name} 1 --json", {"claim": "id"}), ("demand claims", {}), ("demand withdraw {claim}", {}),
        ("surplus", {}), ("record", {}), ("shadow --windows 1", {}), ("plan", {}), ("yield plan", {}),
        (f"yield explain {pool.name}", {}), ("yield chargeback", {}), ("yield chargeback --format focus", {}),
        ("yield report", {}),
        ("reclaim create main 1 --reason why --preview", {}), ("reclaim ls", {}),
        (f"reclaim create {pool.name} 1 --reason why --json", {"reclaim": "id"}),
        ("reclaim waits " + pool.name, {}), ("reclaim show {reclaim}", {}), ("reclaim release {reclaim}", {}),
        (f"models add {at['models']}", {}), ("models ls", {}), ("models scale far 1", {}), ("models pull far", {}),
        (f"models place far {pool.name}", {}),
        ("models route add chat far,weight=2", {}), ("models route ls", {}), ("models route set chat --spill", {}),
        ("models route rm chat", {}),
        ("models rm far", {}),
        (f"volume create data --gib 1 --pool {pool.name}", {}), ("volume ls", {}), ("volume show data", {}),
        (f"volume cp {at['usage']} data:usage", {}), ("volume snapshot data --name one --no-wait", {}),
        ("volume snapshots data", {}), ("volume restore data one --yes --no-wait", {}),
        ("volume remove-snapshot data one --yes", {}), ("volume rm data --yes", {}),
        (f"image import mine {at['prices']} --no-wait", {}), ("image ls", {}), ("image show mine", {}),
        ("image rm mine --yes", {}),
        ("lease classes", {}), ("lease networks", {}), ("lease quote -c spot --json", {"quote": "id"}), ("lease quotes", {}),
        ("lease cancel-quote {quote}", {}),
        (f"lease take -c spot -n 2 --no-wait --key {at['key']} --json", {"lease": "id"}), ("lease ls", {}),
        ("lease show {lease}", {}), ("lease log {lease}", {}),
        (f"lease keys {{lease}} --add {at['other']}", {}), ("lease ssh-config", {}),
        ("lease extend {lease} -m 10 --dry-run", {}), ("lease extend {lease} -m 10", {}), ("lease rename büro {lease}", {}),
        (f"lease shorten {{lease}} --until {soon}", {}), ("lease label équipe=β --lease {lease}", {}),
        ("lease move {lease} --project search", {}), ("lease shrink {lease} -n 1", {}), ("lease end {lease} --dry-run", {}),
        ("lease end {lease}", {}), ("lease ssh {lease}", {}),
        ("waitlist join -c spot --max-price 0.01 --json", {"waiting": "id"}), ("waitlist ls", {}), ("waitlist show {waiting}", {}),
        ("waitlist unmet", {}), ("waitlist leave {waiting}", {}),
        ("job submit -c spot --yes --json -- true", {"job": "jobs.0.id"}), ("job ls", {}), ("job show {job}", {}),
        ("job logs {job}", {}), ("job cancel {job}", {}),
        (f"block create {pool.name} -n 1 --days 2 --json", {"block": "id"}), ("block ls", {}), ("block show {block}", {}),
        (f"block advise {pool.name}", {}), ("block move {block} --days 3", {}), ("block reprice {block} 1", {}),
        ("block shrink {block} 1", {}), ("block widen {block} 1", {}), ("block withdraw {block}", {}),
        (f"maintenance add {pool.name} -n 1 --from 2030-01-01T00:00:00Z --to 2030-01-02T00:00:00Z --yes --json", {}),
        ("maintenance ls", {}), ("maintenance cancel mnt_1", {}),
        (f"prices publish {at['prices']}", {}), ("prices show", {}), ("prices show --organization acme", {}),
        (f"ledger take {at['usage']}", {}), ("ledger rate", {}), ("ledger health", {}), ("ledger backlog", {}),
        ("ledger credit acme 5 --source s", {}), ("ledger credits acme", {}), ("ledger balance acme", {}),
        ("owe", {}), ("owe acme", {}), ("ledger invoice acme", {}), ("ledger invoices acme", {}), ("ledger show INV-1", {}),
        (f"ledger export usage --out {out / 'usage.csv'}", {}), ("ledger receivables", {}), ("ledger statement acme", {}),
        ("ledger profile acme", {}), ("ledger prove", {}), ("ledger dismissed", {}),
        ("ledger dismiss s 9 --reason why", {}), (f"ledger close acme {month}", {}), (f"ledger close-all {month}", {}),
        (f"ledger rerate acme {month}", {}), ("ledger pay INV-1 1 --source p", {}),
        ("ledger reverse-payment INV-1 --source p --reason why", {}), ("ledger void INV-1 --reason why", {}),
        ("ledger note INV-1 --reason why", {}), ("ledger notes acme", {}),
        ("ledger budget create acme 5 --scope project --scope-id everywhere --json", {"budget": "id"}), ("ledger budget ls acme", {}),
        ("ledger budget set {budget} 6", {}), ("ledger budget end {budget}", {}),
        ("ledger refund acme 1 --source r --reason why --payment p", {}), ("ledger return crd_1 1 --reason why", {}),
        ("ledger net INV-1 --source n --reason why", {}), ("ledger write-off INV-1 --reason why", {}),
        ("ledger reinstate INV-1 --reason why", {}), ("ledger refunds acme", {}), (f"ledger revenue {month}", {}),
        ("ledger revenue", {}), ("ledger revenue --by customer,pool", {}),
        ("ledger receive acme 1 --source whole", {}), ("ledger payments acme", {}),
        (f"ledger checklist {month}", {}), (f"subscription publish-plan {at['plan']}", {}), ("subscription plans", {}),
        ("subscription plan team", {}), ("subscription start acme team --final --json", {"subscribed": "id"}),
        ("subscription ls", {}), ("subscription show {subscribed}", {}),
        ("subscription change {subscribed} --add-on support=2 --coupon ONE --percent 10 --final", {}),
        ("subscription end {subscribed}", {}),
        ("notifications kinds", {}),
        ("webhook add https://hooks.example.com/a --json", {"hook": "id"}), *subscribed("webhook"),
        ("notifications add webhook https://hooks.example.com/b --json", {"hook": "id"}), *subscribed("notifications"),
        ("desk actuals", {}),
        (f"demand sacct {pool.name} {at['sacct']} --capacity 16", {}),
        (f"demand squeue {pool.name} {at['squeue']} --capacity 16", {}),
        (f"demand prometheus {pool.name} http://127.0.0.1:9 --in-use up", {}),
    ]  # fmt: skip


def subscribed(group: str) -> list[tuple[str, dict[str, str]]]:
    """What either group of commands can do with the subscription that was just made."""
    about = ["show", "test", "deliveries", "disable", "enable", *(["rotate"] if group == "webhook" else []), "rm"]
    code = ["notifications confirm {hook} 1.x"] if group == "notifications" else []
    lines = [f"{group} ls", f"{group} redeliver dlv_1", *code, *(f"{group} {verb} {{hook}}" for verb in about)]
    return [(line, {}) for line in lines]


REFUSED = {
    "ledger refund", "ledger return", "ledger net", "ledger write-off", "ledger reinstate", "webhook redeliver",
    "notifications redeliver", "notifications confirm",
    "person role", "person remove",
    "volume cp", "volume snapshot", "volume restore", "volume remove-snapshot",
    "node forget", "pool release", "demand undo", "lease ssh", "ledger show", "ledger dismiss", "ledger close",
    "ledger close-all", "ledger checklist", "ledger pay", "ledger reverse-payment", "ledger void", "ledger note", "demand prometheus",
    "demand sacct", "block move", "block reprice", "block shrink", "block widen", "ledger rerate", "reclaim create",
    "shadow", "yield explain", "maintenance add", "maintenance cancel",
}  # fmt: skip
"""Verbs that reach the service and are told no, because there is no such thing in this story."""


def words_of(command: list[str], known: set[str]) -> str:
    """The verb of a command line."""
    return next(" ".join(command[:count]) for count in (3, 2, 1) if " ".join(command[:count]) in known)


def test_every_verb_from_elsewhere_with_an_address_and_a_key(service: Service, url: str, tmp_path: Path) -> None:
    home, elsewhere, given = tmp_path / "home", tmp_path / "elsewhere", tmp_path / "given"
    for folder in (home, elsewhere, given):
        folder.mkdir()
    service.world.clock.set(SystemClock().now().replace(microsecond=0))
    service.world.remember(days=8, need=0.3, spread=0.05)
    at = files_of(given, service)
    known = leaves()
    plan: list[tuple[list[str], str, dict[str, str]]] = [(["login", url], service.keys["operator"] + "\n", {})]
    plan += [(line.split(), "", saved) for line, saved in verbs(service, at, given)]
    asked = {words_of(command, known) for command, _, _ in plan}
    assert known - asked - HERE - LASTS == set(), "a verb that nobody tried"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, str(DRIVER), json.dumps([plan, HEAVY])],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for command, code, _, error, heavy, modules in json.loads(done.stdout):
        verb = words_of(command, known)
        told = f"{' '.join(command)}: {code}: {error}"
        assert code == 0 or verb in REFUSED, told
        assert "Traceback" not in error and "Sublet does not answer" not in error, told
        if verb not in LOADS:
            assert heavy == [] and modules <= MODULES_MAX, (told, heavy, modules)
    made = sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
    remembered = r"\.config/sublet/(profiles\.json|identities/lse_\w+)"
    assert len(made) == 2 and all(re.fullmatch(remembered, path) for path in made), made
    assert list(elsewhere.iterdir()) == []


def test_the_help_of_every_command_loads_nothing_heavy(tmp_path: Path) -> None:
    plan: list[tuple[list[str], str, dict[str, str]]] = [
        ([*words.split(), "--help"], "", {}) for words in sorted(leaves() | {""})
    ]
    done = subprocess.run(
        [sys.executable, str(DRIVER), json.dumps([plan, HEAVY])],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for command, code, printed, error, heavy, modules in json.loads(done.stdout):
        assert code == 0 and printed, (command, error)
        assert heavy == [] and modules <= MODULES_MAX, (command, heavy, modules)
    assert list(tmp_path.iterdir()) == []
