"""`sublet desk new KIND`: a case for each kind of owner, from a dozen numbers, that gives a full page of brief as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from string import Template

from sublet.desk.errors import CaseError, nearest


@dataclass(frozen=True, slots=True)
class Starter:
    """What differs between kinds of owners. Power in MW, rents in USD per watt and year; `shares_bn` is 0 for an owner without."""

    title: str
    owner: str
    summary: str
    power: float
    power_note: str
    price: float
    price_note: str
    used: float
    power_price: float
    pue: float
    support: float
    tax: float
    tax_note: str
    shares_bn: float
    capex: float
    displaced: float
    worth: float
    worth_note: str


STARTERS: Mapping[str, Starter] = {
    "hyperscaler": Starter(
        "Leasing out what our own models do not need yet", "A hyperscaler",
        "Capacity comes online before the products that need it. What would leasing the difference for a year bring?",
        250.0, "online before its own work", 20.0, "one-year lease of recent accelerators", 0.95, 65.0, 1.15, 2.5, 0.16,
        "effective rate", 2.5, 45.0, 0.15, 30.0, "what a watt-year of displaced training is worth",
    ),
    "neocloud": Starter(
        "Filling what is not under contract", "A neocloud",
        "Part of the fleet is between contracts. What would short leases bring until the next one?",
        40.0, "between contracts", 13.0, "short leases at the market's price", 0.85, 62.0, 1.22, 1.4, 0.23, "statutory rate",
        0.2, 41.0, 0.05, 12.0, "what reserved capacity is worth to the next contract",
    ),
    "university": Starter(
        "Nights and weekends of the data hall", "A university",
        "The accelerators are idle at night and between terms. What would leasing them bring to the budget?",
        0.3, "idle at night and between terms", 10.0, "interruptible hours", 0.45, 110.0, 1.45, 0.8, 0.0,
        "tax-exempt; check unrelated business income", 0.0, 28.0, 0.08, 25.0, "what researchers would pay a cloud instead",
    ),
    "sovereign": Starter(
        "Leasing the national machine's spare partitions", "A national computing center",
        "The machine is sized for its peaks. What would leasing spare partitions to industry bring, and what would it displace?",
        8.0, "partitions beyond the grants' use", 9.0, "lease to industry at cost plus", 0.7, 95.0, 1.2, 1.2, 0.0,
        "a public body without tax", 0.0, 38.0, 0.1, 20.0, "what a watt-year of displaced science is worth",
    ),
    "enterprise": Starter(
        "Leasing out the accelerators between releases", "An enterprise",
        "The model teams need the accelerators in bursts. What would leasing them in between bring?",
        2.0, "idle between releases", 11.0, "monthly leases", 0.6, 85.0, 1.35, 1.5, 0.25, "statutory rate", 0.0, 40.0, 0.1,
        28.0, "what the teams would pay a cloud instead",
    ),
}  # fmt: skip
"""By kind of owner. The numbers are of a size that such an owner would have, and assumptions all of them."""


def starter_text(kind: str, name: str) -> str:
    """The case of a kind. Raises CaseError for a kind that there is none of."""
    found = STARTERS.get(kind)
    if found is None:
        raise CaseError(f"there is no starter for {kind!r}; {nearest(kind, STARTERS)}")
    per_share = found.shares_bn > 0
    formula = "eps_increment" if per_share else "net_contribution"
    extra = ", shares=in.shares" if per_share else ""
    result = "bridge.eps" if per_share else "bridge.contribution"
    title = "EPS of one year" if per_share else "contribution of one year"
    shares = ""
    if per_share:
        shares = (
            f'\n[inputs."in.shares"]\nvalue = {found.shares_bn}\nunit = "bn diluted shares"\nstatus = "assumption"\n'
            'source = "judgment"\nnote = "diluted shares"\n'
        )
    words = {
        **{key: value if isinstance(value, str) else f"{value:g}" for key, value in asdict(found).items()},
        "power": f"{found.power}", "price": f"{found.price}", "name": name, "result": result, "result_title": title,
        "claim": f"Leasing {{in.power}} at {{in.price}} brings {{{result}}} in a year.", "shares": shares,
        "power_low": f"{found.power * 0.4:g}", "power_high": f"{found.power * 1.6:g}", "price_low": f"{found.price * 0.6:g}",
        "price_high": f"{found.price * 1.8:g}", "used_low": f"{found.used * 0.6:g}", "used_half": f"{found.used / 2:g}",
        "mc": f"{formula}(power=in.power, price=in.price, cost=in.cost, tax=in.tax, used=in.used{extra})",
        "unit": "USD/share" if per_share else "USD m", "per_share": 'shares = "in.shares"' if per_share else "",
    }  # fmt: skip
    text = resources.files("sublet.desk").joinpath("starter.toml").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def write_starter(kind: str, path: Path) -> None:
    """Write a kind's case to `path`, which names it. Raises CaseError for an unknown kind or a file that is there already."""
    text = starter_text(kind, path.stem)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise CaseError(f"{path} is already there; name another file, or move that one away") from error
    except OSError as error:
        raise CaseError(f"{path}: the file can't be written ({error.strerror}); name another path") from error
