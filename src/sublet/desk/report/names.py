"""What people call the values that the desk's own sections make: `capex.growth_2027` is "growth of capex in 2027".

Each pattern's groups fill the words' places; the words are translated in the catalog like every other label of the report.
"""

from __future__ import annotations

import re

PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"bridge\.waterfall\.revenue", "revenue of the lease"),
        (r"bridge\.waterfall\.power", "electricity"),
        (r"bridge\.waterfall\.other", "support and other costs"),
        (r"bridge\.waterfall\.pre_tax", "pre-tax profit of the lease"),
        (r"bridge\.waterfall\.tax", "tax on the lease"),
        (r"bridge\.waterfall\.net_income", "net income of the lease"),
        (r"bridge\.waterfall\.eps", "earnings per share of the lease"),
        (r"bridge\.(?:eps|contribution)", "result of the lease"),
        (r"grid\.breakeven_price\.affine", "break-even price, cash cost"),
        (r"grid\.breakeven_price\.full_cost", "break-even price, full cost"),
        (r"grid\.price_elasticity_at_(?P<a>[\d.]+)\.affine", "price elasticity at {a} USD/W-yr"),
        (r"grid\.slope_eps_per_usd_w_at_(?P<a>[\d.]+)\.affine", "EPS for each USD/W-yr at {a} MW, constant cost"),
        (
            r"grid\.slope_eps_per_usd_w_at_(?P<a>[\d.]+)\.proportional",
            "EPS for each USD/W-yr at {a} MW, constant margin",
        ),
        (r"grid\.slope_eps_per_mw_at_(?P<a>[\d.]+)", "EPS for each MW at {a} USD/W-yr"),
        (r"grid\.c_high", "highest cost that fits the published number"),
        (r"grid\.upside_(?P<a>[\d.]+)_at_(?P<b>[\d.]+)\..+", "increase of EPS, {a} MW at {b} USD/W-yr"),
        (r"grid\.(?:eps|envelope)_(?P<a>[\d.]+)_at_(?P<b>[\d.]+)\..+", "result, {a} MW at {b} USD/W-yr"),
        (r"decision\.revenue", "revenue of leasing"),
        (r"decision\.displaced_power", "own work displaced"),
        (r"decision\.result", "leasing less keeping, after tax"),
        (r"decision\.replacement_capex", "capex if the displaced work is built for instead"),
        (r"decision\.indifference_price", "rent at which leasing and keeping come to the same"),
        (r"decision\.displaced_at_most", "displaced share at which they come to the same"),
        (r"decision\.at_(?P<a>[\d.]+)_(?P<b>[\d.]+)", "leasing less keeping at {a} USD/W-yr, {b}% displaced"),
        (r"capex\.growth_(?P<a>\d{4})", "growth of capex in {a}"),
        (r"capex\.sum_(?P<a>\d{4})_(?P<b>\d{4})", "capex, {a} to {b}"),
        (r"capex\.cagr_(?P<a>\d{4})_(?P<b>\d{4})", "yearly growth of capex, {a} to {b}"),
        (r"capex\.per_gw_(?P<a>\d{4})_(?P<b>\d{4})", "capex per GW added, {a} to {b}"),
        (r"capex\.per_gw_(?P<a>\d{4})", "capex per GW added, {a}"),
        (r"capex\.per_gw_lag1(?:_\d{4})?", "capex per GW added the year after"),
        (r"capex\.temporary_leasing\.delta_sum", "change of capex by temporary leasing"),
        (r"capex\.permanent_.+\.delta_sum", "change of capex by capacity built to be let"),
        (r"capex\.permanent_.+\.(?P<a>\d{4})", "capex with capacity built to be let, {a}"),
        (r"capex\.displaced_.+\.delta_sum", "change of capex by leased-in capacity"),
        (r"capex\.displaced_.+\.(?P<a>\d{4})", "capex with leased-in capacity, {a}"),
        (r"capex\.whatif_minus(?P<b>[\d.]+)\.(?P<a>\d{4})", "capex cut by {b}%, {a}"),
        (r"capex\.whatif_minus(?P<b>[\d.]+)_sum", "capex cut by {b}%, all years"),
        (r"capex\.whatif_minus(?P<b>[\d.]+)_delta", "change of capex by a cut of {b}%"),
        (r"capex\.whatif_delay(?P<b>[\d.]+)\.(?P<a>\d{4})", "capex with {b}% a year later, {a}"),
        (r"capex\.depr\.(?P<a>\d{4})\.vintage_(?P<b>\d{4})", "depreciation in {a} of what was bought in {b}"),
        (r"capex\.depr_new_vintages\.(?P<a>\d{4})", "depreciation of new capex in {a}"),
        (r"capex\.full_cost_price\.K(?P<a>[\d.]+)\.r(?P<b>\d+)", "full-cost price at {a} USD/W and {b}%"),
        (r"capex\.payback_years\.K(?P<a>[\d.]+)\.p(?P<b>[\d.]+)", "payback at {a} USD/W and {b} USD/W-yr"),
        (r"capex\.[^.]+\.(?P<a>\d{4})", "capex in {a}"),
        (r"cp\.hhi_floor", "concentration (HHI), at least"),
        (r"cp\.hhi_ceiling_any", "concentration (HHI), at most"),
        (r"cp\.hhi_ceiling_.+_largest", "concentration (HHI) if the largest known customer is the largest"),
        (r"cp\.hhi_with_.+", "concentration (HHI) with one more customer known"),
        (r"cp\.effective_customers_max", "effective customers, at most"),
        (r"cp\.effective_customers_min", "effective customers, at least"),
        (r"cp\.competitor_share", "share of potential competitors"),
        (r"mgd\.breakeven_tok_s\..+", "throughput above which a managed service earns more"),
        (r"mgd\.breakeven_price\..+", "token price above which a managed service earns more"),
        (r"mgd\.breakeven_util\..+", "utilization above which a managed service earns more"),
        (r"mgd\.ratio\..+\.(?P<a>[\d.]+)tok_u(?P<b>[\d.]+)", "managed over raw at {a} tokens a second and {b}%"),
        (r"sig\.post\.none", "probability without any signal"),
        (r"sig\.post\.all_bull", "probability if every signal is bullish"),
        (r"sig\.post\.all_bear", "probability if every signal is bearish"),
        (r"sig\.post\.as_of", "probability as of the date"),
        (r"verdict\.[^.]+\.probability", "probability of the verdict"),
        (r"hw\.(?P<a>[^.]+)\.system_w", "{a}: maximum draw of a system"),
        (r"hw\.(?P<a>[^.]+)\.accelerators", "{a}: accelerators of a system"),
        (r"par\.watts_it\.(?P<a>[^.]+)", "{a}: watts per accelerator at IT level"),
        (r"par\.watts_all_in\.(?P<a>[^.]+)", "{a}: watts per accelerator, all-in"),
        (r"glut\.[^.]+\.idle_mw\.(?P<a>.+)", "idle, {a}"),
        (r"glut\.[^.]+\.bought_mw\.(?P<a>.+)", "bought, {a}"),
        (r"glut\.[^.]+\.net_mw\.(?P<a>.+)", "idle less bought, {a}"),
        (r"glut\.[^.]+\.capacity_mw\.(?P<a>.+)", "industry capacity, {a}"),
        (r"glut\.[^.]+\.demand_mw\.(?P<a>.+)", "industry demand, {a}"),
        (r"glut\.[^.]+\.slack\.(?P<a>.+)", "industry slack, {a}"),
    )
)


def generated(name: str) -> tuple[str, dict[str, str]] | None:
    """The English words for a value of the desk's own making, and what fills their places; None for other names."""
    for pattern, words in PATTERNS:
        found = pattern.fullmatch(name)
        if found is not None:
            return words, {key: value for key, value in found.groupdict().items() if value is not None}
    return None
