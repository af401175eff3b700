"""The commands: what they print, as a table and as JSON, and how they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sublet.client.core import Answer, Request
from sublet.client.transport import StandardTransport
from sublet.commands.desk import app
from sublet.desk.actuals import CreditRecord, PoolRecord, UsageRecord, gather
from sublet.desk.errors import CaseError
from sublet.desk.report.actuals_page import actuals_json, render_actuals
from sublet.desk.statement import Statement
from sublet.values.errors import InvalidInputError, UnavailableError
from sublet.values.windows import Window

HYPERSCALER = str(Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml")
UNIVERSITY = str(Path(__file__).parents[2] / "examples" / "university.toml")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_values_as_json_has_the_five_fields_of_every_value() -> None:
    found = json.loads(run("values", HYPERSCALER, "--json").stdout)
    assert found["chk.ms.base_eps_2028"]["value"] == pytest.approx(37.125)
    assert all({"value", "unit", "status", "source", "formula"} <= set(value) for value in found.values())


def test_values_as_a_table_can_be_narrowed() -> None:
    text = run("values", HYPERSCALER, "--prefix", "pos.swing").stdout
    assert "pos.swing_lo" in text
    assert "par.tax" not in text


def test_explain_prints_the_tree_down_to_sources() -> None:
    text = run("explain", HYPERSCALER, "chk.ms.cost_w_year").stdout
    assert "chk.ms.cost_w_year = 4.0385412 USD/W-yr [modeled]" in text
    assert "Morgan Stanley, body: Morgan Stanley note, as reported, 2026-07-01" in text
    assert "par.tax = 0.15 rate [assumption], range 0.12 to 0.21" in text


def test_explain_as_json_is_the_same_tree() -> None:
    found = json.loads(run("explain", HYPERSCALER, "chk.ms.revenue_bn", "--json").stdout)
    assert [part["name"] for part in found["from"]] == ["b20a", "b20b"]


def test_explain_of_a_wrong_name_gives_the_nearest() -> None:
    with pytest.raises(CaseError, match=r"did you mean 'bridge\.eps'"):
        run("explain", HYPERSCALER, "bridge.esp")


def test_init_then_report(tmp_path: Path) -> None:
    case = tmp_path / "case.toml"
    run("init", str(case))
    files = json.loads(run("report", str(case), "--out", str(tmp_path / "out"), "--json").stdout)
    assert files.pop("pages") == {"en": files["html"]}
    assert sorted(files) == ["html", "json", "xlsx"]
    assert all(Path(path).stat().st_size > 1000 for path in files.values())


def test_report_writes_a_page_for_each_language(tmp_path: Path) -> None:
    found = run("report", UNIVERSITY, "--out", str(tmp_path), "-l", "zh-Hant", "-l", "en", "--json")
    pages = json.loads(found.stdout)["pages"]
    assert list(pages) == ["zh-Hant", "en"]
    assert "損益兩平" in Path(pages["zh-Hant"]).read_text() and Path(pages["en"]).name == "university.html"
    with pytest.raises(CaseError, match="use one of en, zh-Hant, zh-Hans"):
        run("report", UNIVERSITY, "--out", str(tmp_path), "-l", "zh")


def test_mc_takes_samples_and_seed() -> None:
    one = json.loads(run("mc", HYPERSCALER, "--samples", "5000", "--seed", "3", "--json").stdout)
    again = json.loads(run("mc", HYPERSCALER, "--samples", "5000", "--seed", "3", "--json").stdout)
    assert one == again
    assert one[0]["samples"] == 5000
    assert "contribution to variance" in run("mc", UNIVERSITY, "--samples", "5000").stdout


def test_mc_of_a_case_without_it_says_what_to_add(tmp_path: Path) -> None:
    text = Path(UNIVERSITY).read_text()
    start, end = text.index("[monte_carlo]"), text.index("[[scenarios]]")
    case = tmp_path / "plain.toml"
    case.write_text(text[:start] + text[end:])
    with pytest.raises(CaseError, match="has no \\[monte_carlo\\]"):
        run("mc", str(case))


def test_diff_names_the_assumption_and_its_part(tmp_path: Path) -> None:
    other = tmp_path / "dear.toml"
    text = Path(UNIVERSITY).read_text()
    assert text.count("value = 110.0") == 1
    other.write_text(text.replace("value = 110.0", "value = 150.0"))

    found = json.loads(run("diff", UNIVERSITY, str(other), "--json").stdout)

    assert [item["name"] for item in found["inputs"]] == ["in.power_price"]
    change = next(item for item in found["results"] if item["name"] == "bridge.contribution")
    assert change["change"] < 0
    assert change["parts"] == {"in.power_price": pytest.approx(change["change"])}
    assert "in.power_price" in run("diff", UNIVERSITY, str(other)).stdout


@pytest.mark.parametrize("language", ["en", "zh-Hant", "zh-Hans"])
def test_brief_in_three_languages(language: str) -> None:
    text = run("brief", HYPERSCALER, "--language", language).stdout
    assert any(
        sorted(names.split(", ")) == ["b20", "b20a", "b20b", "b21"] for names in re.findall(r"\[([^]]+)\]", text)
    )
    assert json.loads(run("brief", HYPERSCALER, "--language", language, "--json").stdout)["language"] == language


def test_brief_in_another_language_is_refused() -> None:
    with pytest.raises(CaseError, match="use one of en, zh-Hant, zh-Hans"):
        run("brief", HYPERSCALER, "--language", "fr")


def test_formulas_are_listed_with_units() -> None:
    found = json.loads(run("formulas", "--json").stdout)
    assert found["eps_increment"]["unit"] == "USD/share"
    assert found["eps_increment"]["takes"]["price"] == "USD/W-yr"


def test_actuals_need_a_key_and_a_running_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBLET_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="set SUBLET_KEY"):
        run("actuals")
    monkeypatch.setenv("SUBLET_KEY", "key")
    monkeypatch.setenv("SUBLET_URL", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="start it with `sublet up`"):
        run("actuals")


def test_actuals_are_printed_kept_as_a_page_and_given_as_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    window = Window(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
    pool = PoolRecord("h100", "H100", 8, 1275.0, 100.0)
    earned = gather(
        "A lab",
        window,
        [pool],
        [UsageRecord("h100", "raw", "acme", 40.0, 100 * 10**9)],
        credits=[CreditRecord("h100", 7 * 10**9)],
        statement=Statement("USD", {"leases": 100 * 10**9, "penalties": -7 * 10**9}, 93 * 10**9),
    )
    euros = gather("A lab", window, [pool], [], currency="EUR", statement=Statement("EUR", {"fees": 5}, 5))
    told = {**actuals_json(earned, date(2026, 7, 1)), "other_currencies": [actuals_json(euros, date(2026, 7, 1))]}
    pages = {
        "/v1/desk/actuals": json.dumps(told),
        "/v1/desk/actuals.html": render_actuals(earned, date(2026, 7, 1)),
    }
    monkeypatch.setenv("SUBLET_KEY", "key")

    def send(self: StandardTransport, request: Request) -> Answer:
        return Answer(200, {}, pages[request.target.partition("?")[0]].encode())

    def stream(self: StandardTransport, request: Request) -> tuple[Answer, Iterator[bytes]]:
        return send(self, request), iter([send(self, request).body])

    monkeypatch.setattr(StandardTransport, "send", send)
    monkeypatch.setattr(StandardTransport, "stream", stream)

    text = run("actuals", "--out", str(tmp_path / "page.html")).stdout

    assert "h100" in text and "2.5" in text
    assert (tmp_path / "page.html").read_text() == pages["/v1/desk/actuals.html"]
    assert "7.00" in pages["/v1/desk/actuals.html"] and "credits, USD" in text
    assert "93.000000000" in text and "0.000000005" in text and "EUR" in text
    found = json.loads(run("actuals", "--json").stdout)
    assert [found["worth"][name]["value"] for name in ("revenue", "credits", "earned")] == [100.0, 7.0, 93.0]
    assert [found["pools"][0][name]["value"] for name in ("revenue", "credits", "earned")] == [100.0, 7.0, 93.0]
