"""`sublet ledger` and `sublet prices`, as typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.terminal import sit_at
from typer.testing import CliRunner, Result

from sublet.accounts import api as accounts_api
from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.commands.ledger import app
from sublet.commands.prices import app as prices
from sublet.config import settings
from sublet.config.settings import SettingsError
from sublet.ledger import api as ledger_api
from sublet.ledger.assembly import ledger_of
from sublet.ledger.exports import EXPORTS
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.errors import InvalidInputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "prices.toml"
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command against an API with a database of its own, as the operator; the parsed JSON where it prints any."""
    monkeypatch.setenv("SUBLET_DATA_DIR", str(tmp_path))
    store = Store(f"sqlite:///{tmp_path}/sublet.db")
    migrate(store)
    accounts = Accounts(store)
    accounts.create_organization("acme")
    key = accounts.ensure_operator() or ""

    def invoke(*words: str, code: int = 0, of: Any = app) -> Any:
        api, require = frame("test"), requirement(accounts)
        api.include_router(accounts_api.router(accounts, require))
        api.include_router(ledger_api.router(ledger_of(store, settings.load().billing), require))
        sit_at(monkeypatch, api, key)
        result: Result = CliRunner().invoke(of, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if "--json" in words else result.stdout

    yield invoke
    store.close()


def write_usage(path: Path, *quantities: int) -> Path:
    from datetime import UTC, datetime

    now = datetime.now(UTC).isoformat()  # the command runs on the machine's clock
    lines = []
    for number, quantity in enumerate(quantities):
        data = {"organization": "ORG", "meter": "tokens.input", "quantity": quantity, "dimensions": {"model": "m"}}
        event = {
            "specversion": "1.0",
            "id": str(number),
            "source": "s",
            "type": "sublet.usage.v1",
            "time": now,
            "data": data,
        }
        lines.append(json.dumps(event))
    path.write_text("\n".join(lines))
    return path


def test_the_way_from_usage_to_a_proven_invoice(run: Run, tmp_path: Path) -> None:
    assert "no overlap" in run("check", str(EXAMPLE), of=prices)
    assert run("publish", str(EXAMPLE), "--json", of=prices) == {"version": 1, "built_in": []}
    shown = run("show", of=prices)
    assert "USD per 1,000,000 tokens" in shown and "3600" not in shown and "000000000" not in shown
    file = write_usage(tmp_path / "usage.jsonl", 1_000_000, -1, 2_000_000)
    owner = run("credit", "acme", "0.10", "--source", "s1", "--reason", "hello", "--json")["organization_id"]
    file.write_text(file.read_text().replace("ORG", owner))
    assert "2 accepted, 0 duplicates, 1 refused" in run("take", str(file), code=2)
    assert run("rate", "--json")["rated"] == 2
    draft = run("invoice", "acme", "--json")
    assert (draft["status"], draft["net"]) == ("draft", "0.350000000")
    shown = run("invoice", "acme")
    assert (
        "digest" in shown
        and re.search(r"Credit: hello +-0.10 USD\n", shown)
        and re.search(r"To pay +0.35 USD\n", shown)
    )
    made = run("invoice", "acme", "--final", "--digest", draft["digest"], "--json")
    assert run("invoice", "acme", "--final") == "nothing to invoice\n"
    assert "difference 0.000000000" in run("prove", made["number"])
    assert run("prove", "--organization", "acme", "--json")["ok"]
    for suffix in ("pdf", "html", "json"):
        out = tmp_path / f"invoice.{suffix}"
        run("show", made["number"], "--out", str(out))
        assert out.stat().st_size > 500
    with pytest.raises(InvalidInputError, match="must end in"):
        run("show", made["number"], "--out", str(tmp_path / "invoice.doc"))
    assert "paid" in run("pay", made["number"], "0.35", "--source", "bank")
    mistake = ("reverse-payment", made["number"], "--source", "bank", "--reason", "counted twice")
    assert run(*mistake) == "INV-000001 is final, paid 0.00 of 0.35\n"
    assert run("pay", made["number"], "0.35", "--source", "bank-2", "--json")["status"] == "paid"
    assert "INV-000001" in run("invoices", "acme")
    assert run("balance", "acme", "--json")["balances"]["receivable"] == "0.000000000"
    assert "closing 0.00 " in run("statement", "acme")
    assert run("receivables") == "nothing is owed\n"
    assert "rated to 2" in run("health")
    for name in EXPORTS:
        run("export", name, "--out", str(tmp_path / f"{name}.csv"))
        assert (tmp_path / f"{name}.csv").read_text().count("\n") >= 1
    run("export", "revenue", "--out", str(tmp_path / "revenue.json"))
    assert {row["product"] for row in json.loads((tmp_path / "revenue.json").read_text())} >= {"models"}
    assert "difference 0.000000000" in run("revenue", "--by", "customer,product")
    with pytest.raises(InvalidInputError, match=r"must end in \.csv, \.json or \.parquet"):
        run("export", "focus-1.4", "--out", str(tmp_path / "focus.xlsx"))
    run("export", "focus-1.4", "--out", str(tmp_path / "focus.parquet"))
    assert (tmp_path / "focus.parquet").read_bytes()[:4] == b"PAR1"


def test_budgets(run: Run) -> None:
    made = run("budget", "create", "acme", "12.5", "--scope", "project", "--scope-id", "search", "--json")
    [row] = run("budget", "ls", "acme", "--json")["budgets"]
    assert (row["id"], row["free"], row["scope_id"]) == (made["id"], "12.500000000", "search")
    assert "20.00 a month" in run("budget", "set", made["id"], "20")
    [row] = run("budget", "ls", "acme", "--json")["budgets"]
    assert (row["limit"], row["spent"], row["held"], row["free"]) == (
        "20.000000000", "0.000000000", "0.000000000", "20.000000000",
    )  # fmt: skip
    assert "ended" in run("budget", "end", made["id"])
    assert "no budgets yet" in run("budget", "ls", "acme")


def test_a_price_book_with_gaps_is_listed_and_one_with_overlaps_refused(run: Run, tmp_path: Path) -> None:
    entry = '[[prices]]\nid = "%s"\nmeter = "requests"\nkind = "per_unit"\ncurrency = "USD"\namount = "0"\nfrom = %s\n'
    gaps = tmp_path / "gaps.toml"
    gaps.write_text(entry % ("a", "2026-01-01T00:00:00Z\nuntil = 2026-02-01T00:00:00Z"))
    found = run("check", str(gaps), "--json", of=prices)["findings"]
    assert found[0]["where"] == "a" and found[0]["severity"] == "gap"
    overlaps = tmp_path / "overlaps.toml"
    overlaps.write_text(entry % ("a", "2026-01-01T00:00:00Z") + entry % ("b", "2026-02-01T00:00:00Z"))
    with pytest.raises(InvalidInputError, match="both price requests"):
        run("check", str(overlaps), of=prices)


def test_a_file_of_usage_with_broken_lines_gives_what_is_whole_and_names_the_others(run: Run, tmp_path: Path) -> None:
    owner = run("credit", "acme", "1", "--source", "s", "--json")["organization_id"]
    file = write_usage(tmp_path / "usage.jsonl", 5, 6)
    good = file.read_text().replace("ORG", owner).splitlines()
    file.write_bytes(f"{good[0]}\n\nnot json\n".encode() + b"\xff\n" + good[1].encode())
    shown = run("take", str(file), code=2)
    assert "2 accepted, 0 duplicates, 2 refused" in shown
    assert f"{file}:3: this is not a CloudEvent" in shown and f"{file}:4: this is not a CloudEvent" in shown
    file.write_text(f"\n[{','.join(good)}, 7]")
    found = run("take", str(file), "--json", code=2)
    assert (found["duplicates"], [bad["place"] for bad in found["refused"]]) == (2, [3])
    file.write_text("")
    assert "0 accepted" in run("take", str(file))


def test_rating_a_month_again_says_what_it_left(run: Run, tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    entry = (
        '[[prices]]\nid = "a"\nmeter = "tokens.input"\nkind = "per_unit"\ncurrency = "USD"\namount = "1"\nper = 1000\n'
    )
    book.write_text(entry + "from = 2020-01-01T00:00:00Z\n")
    run("publish", str(book), of=prices)
    owner = run("credit", "acme", "1", "--source", "s", "--json")["organization_id"]
    file = write_usage(tmp_path / "usage.jsonl", *range(1, 13))
    file.write_text(file.read_text().replace("ORG", owner))
    month = json.loads(file.read_text().splitlines()[0])["time"][:7]
    run("take", str(file))
    assert "12 lines in 1 transactions; 0 events wait" in run("rate")
    book.write_text(entry + "from = 2020-01-01T00:00:00Z\nuntil = 2020-02-01T00:00:00Z\n")
    run("publish", str(book), of=prices)
    shown = run("rerate", "acme", month)
    assert shown.startswith("0 lines in 0 transactions; 12 events unchanged\nunchanged: 0 of s: no_price: ")
    assert shown.endswith("\n2 more unchanged\n")
    found = run("rerate", "acme", month, "--json")
    assert (found["rated"], found["left"], len(found["left_events"])) == (0, 12, 10)


def test_a_correction_of_nothing_is_dismissed(run: Run, tmp_path: Path) -> None:
    owner = run("credit", "acme", "1", "--source", "s", "--json")["organization_id"]
    file = write_usage(tmp_path / "usage.jsonl", 5)
    event = json.loads(file.read_text().replace("ORG", owner)) | {"type": "sublet.usage.correction.v1"}
    event["data"]["corrects"] = {"source": "s", "id": "nowhere"}
    file.write_text(json.dumps(event))
    run("take", str(file))
    run("rate")
    assert "waiting: 0 of s: no_original" in run("health")
    assert run("dismissed") == "nothing was dismissed\n"
    assert run("dismiss", "s", "0", "--reason", "of no event") == "correction 0 of s is dismissed\n"
    assert "waits" not in run("health") and run("health", "--json")["waiting_events"] == 0
    [found] = run("dismissed", "--organization", "acme", "--json")["dismissed"]
    assert (found["id"], found["reason"]) == ("0", "of no event")
    assert "difference 0.000000000" in run("prove")


def test_a_credit_that_ends_and_who_is_billed(run: Run) -> None:
    assert "no credits yet" in run("credits", "acme")
    run("credit", "acme", "5", "--source", "trial", "--expires", "2100-01-01T00:00:00Z")
    [found] = run("credits", "acme", "--json")["credits"]
    assert (found["remaining"], found["expires_at"]) == ("5.000000000", "2100-01-01T00:00:00Z")
    with pytest.raises(InvalidInputError, match="--expires: 'soon' is not a time"):
        run("credit", "acme", "5", "--source", "other", "--expires", "soon")
    run("profile", "acme", "--legal-name", "Acme Ltd", "--country", "DE")
    run("profile", "acme", "--payment-days", "14")
    profile = run("profile", "acme", "--json")
    assert {name: value for name, value in profile.items() if value} == {
        "legal_name": "Acme Ltd", "country": "DE", "payment_days": 14,
    }  # fmt: skip
    with pytest.raises(InvalidInputError, match="ISO 3166"):
        run("profile", "acme", "--country", "de")


def test_the_settings_say_who_sends_invoices_and_which_tax_is_on_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("publish", str(EXAMPLE), of=prices)
    monkeypatch.setenv("SUBLET_BILLING__ISSUER_NAME", "Example Compute GmbH")
    monkeypatch.setenv("SUBLET_BILLING__TAX_PERCENT", "8.25")
    file = write_usage(tmp_path / "usage.jsonl", 100_000_000)
    owner = (
        run("profile", "acme", "--json") and run("credit", "acme", "1", "--source", "s", "--json")["organization_id"]
    )
    file.write_text(file.read_text().replace("ORG", owner))
    run("take", str(file))
    made = run("invoice", "acme", "--final", "--json")
    assert made["issuer"]["name"] == "Example Compute GmbH"
    assert (made["net"], made["total"]) == ("14.000000000", "15.160000000")  # 15.00 less 1.00, and 1.155 of tax
    [tax] = made["taxes"]
    assert (tax["name"], tax["percent"], tax["amount"]) == ("VAT", "8.25", "1.160000000")
    # Another tax from now on leaves what was invoiced proven.
    monkeypatch.setenv("SUBLET_BILLING__TAX_PERCENT", "9")
    assert run("prove", "--json")["ok"]
    monkeypatch.setenv("SUBLET_BILLING__TAXES", "moon")
    with pytest.raises(SettingsError, match="not both"):
        run("prove")


def test_a_budget_tells_at_shares_of_its_limit(run: Run) -> None:
    made = run("budget", "create", "acme", "5", "--threshold", "90", "--threshold", "100", "--json")
    assert made["thresholds"] == [90, 100]


def test_a_credit_note_is_shown_and_then_made(run: Run, tmp_path: Path) -> None:
    run("publish", str(EXAMPLE), "--json", of=prices)
    file = write_usage(tmp_path / "usage.jsonl", 1_000_000)
    owner = run("credit", "acme", "0.01", "--source", "s1", "--json")["organization_id"]
    file.write_text(file.read_text().replace("ORG", owner))
    run("take", str(file))
    number = run("invoice", "acme", "--final", "--json")["number"]
    shown = run("note", number, "--line", "1=0.05", "--reason", "outage")
    assert "draft credit note for acme" in shown and f"Corrects {number}" in shown
    assert run("notes", "acme").startswith("no credit notes; ")
    made = run("note", number, "--amount", "0.05", "--reason", "outage", "--final", "--json")
    assert (made["number"], made["total"]) == ("CN-000001", "0.050000000")
    assert "CN-000001" in run("notes", "acme")
    assert "Deducted from what is open" in run("show", "CN-000001")
    page = tmp_path / "note.html"
    run("show", "CN-000001", "--out", str(page))
    assert "Credit note CN-000001" in page.read_text()


def test_money_goes_back_and_debts_are_written_off(run: Run, tmp_path: Path) -> None:
    run("publish", str(EXAMPLE), "--json", of=prices)
    owner = run("credit", "acme", "5", "--source", "bank-1", "--kind", "prepaid", "--json")
    assert "would be: 4.00 owed back, 1.00 left" in run("return", owner["id"], "4", "--reason", "leaves")
    run("return", owner["id"], "4", "--reason", "leaves", "--final")
    words = ("refund", "acme", "3", "--source", "r", "--payment", "bank-1", "--reason", "leaves")
    assert "--final carries it out" in run(*words)
    assert "3.00 by payment bank-1" in run(*words, "--final")
    file = write_usage(tmp_path / "usage.jsonl", 20_000_000)
    file.write_text(file.read_text().replace("ORG", owner["organization_id"]))
    run("take", str(file))
    number = run("invoice", "acme", "--final", "--json")["number"]
    netted = run("net", number, "--source", "n", "--amount", "0.50", "--reason", "agreed", "--final")
    assert f"0.50 paid on {number}" in netted
    assert f"0.50 of {number} is open again" in run("net", number, "--source", "n", "--undo", "--reason", "no")
    assert "bad debt" in run("write-off", number, "--reason", "insolvent", "--final")
    assert f"{number} is final" in run("reinstate", number, "--reason", "solvent")
