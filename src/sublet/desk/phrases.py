"""The briefing's sentences in each language. `{name}` stands for a number or a title that the case gives."""

from __future__ import annotations

from collections.abc import Mapping

Phrases = Mapping[str, Mapping[str, str]]

PARTS: Phrases = {
    "claim": {"en": "The claim", "zh-Hant": "主張", "zh-Hans": "主张"},
    "numbers": {"en": "What the numbers say", "zh-Hant": "數字怎麼說", "zh-Hans": "数字怎么说"},
    "sources": {"en": "Where sources disagree or slip", "zh-Hant": "來源的分歧與筆誤", "zh-Hans": "来源的分歧与笔误"},
    "change": {"en": "What would change the answer", "zh-Hant": "什麼會改變結論", "zh-Hans": "什么会改变结论"},
}

MISSING: Mapping[str, str] = {
    "en": "What can't be calculated",
    "zh-Hant": "無法計算的部分",
    "zh-Hans": "无法计算的部分",
}

CANNOT: Mapping[str, str] = {
    "en": "{name} can't be calculated: {reason}",
    "zh-Hant": "{name}無法計算，原因見原文：{reason}",
    "zh-Hans": "{name}无法计算，原因见原文：{reason}",
}

PROBLEM_PARTS: Phrases = {
    "results": {"en": "A headline result", "zh-Hant": "主要結果", "zh-Hans": "主要结果"},
    "claims": {"en": "A sentence of the case", "zh-Hant": "案例敘述", "zh-Hans": "案例表述"},
    "capacity": {"en": "A row of the capacity ledger", "zh-Hant": "容量帳的一列", "zh-Hans": "容量账的一行"},
    "comparables": {"en": "A comparable deal", "zh-Hant": "可比交易", "zh-Hans": "可比交易"},
    "bridge": {"en": "The earnings bridge", "zh-Hant": "盈餘推算", "zh-Hans": "盈利推算"},
    "capex": {"en": "The capital section", "zh-Hant": "資本支出", "zh-Hans": "资本开支"},
    "channels": {"en": "Raw against managed", "zh-Hant": "裸算力與代管服務之比較", "zh-Hans": "裸算力与托管服务之比较"},
    "counterparties": {"en": "The counterparties", "zh-Hant": "交易對手", "zh-Hans": "交易对手"},
    "signals": {"en": "The signal board", "zh-Hant": "訊號表", "zh-Hans": "信号表"},
    "positioning": {"en": "Positioning", "zh-Hant": "部位", "zh-Hans": "仓位"},
    "surplus": {"en": "A verdict on surplus and glut", "zh-Hant": "閒置與過剩的判斷", "zh-Hans": "闲置与过剩的判断"},
    "monte_carlo": {"en": "The simulation", "zh-Hant": "模擬", "zh-Hans": "模拟"},
    "scenarios": {"en": "A scenario", "zh-Hant": "情境", "zh-Hans": "情景"},
    "formulas": {"en": "A formula", "zh-Hant": "公式", "zh-Hans": "公式"},
}
"""What each part of a case is called where it can't be calculated."""

STATUS_WORDS: Phrases = {
    "assumption": {"en": "assumed in this case", "zh-Hant": "本案假設", "zh-Hans": "本案假设"},
    "modeled": {"en": "modeled on assumptions of this case", "zh-Hant": "依本案假設推算", "zh-Hans": "按本案假设测算"},
    "bound": {"en": "a limit, not an estimate", "zh-Hant": "僅為界限，並非預估", "zh-Hans": "仅为界限，并非预计"},
    "external": {"en": "from other public sources", "zh-Hant": "依其他公開來源", "zh-Hans": "依其他公开来源"},
    "derived": {"en": "arithmetic on published numbers", "zh-Hant": "依公布數字推算", "zh-Hans": "按已公布数字推算"},
    "published": {"en": "as published", "zh-Hant": "已公布", "zh-Hans": "已公布"},
}
"""How far a sentence can be trusted, the weakest first: what it says of its weakest number."""

HEAD: Mapping[str, str] = {
    "en": "{owner}, as of {as_of}. Case {name} version {version}, hash {digest}.",
    "zh-Hant": "{owner}，截至 {as_of}。案例 {name} 第 {version} 版，雜湊 {digest}。",
    "zh-Hans": "{owner}，截至 {as_of}。案例 {name} 第 {version} 版，哈希 {digest}。",
}

SENTENCES: Phrases = {
    "bridge": {
        "en": "Letting {power} for a year at {price} gives {result} after an incremental cost of {cost}; the capacity counts as sunk.",
        "zh-Hant": "以 {price} 出租 {power} 一年，扣除增量成本 {cost} 後得到 {result}；這裡把既有算力視為沉沒成本。",
        "zh-Hans": "以 {price} 出租 {power} 一年，扣除增量成本 {cost} 后得到 {result}；这里把既有算力视为沉没成本。",
    },
    "one_cell": {
        "en": "Only one cell is published ({increment}); away from it the readings part: at {at} they run from {low} to {high}.",
        "zh-Hant": "公布的只有一格（{increment}）；離開這一格，不同解讀便分開：在 {at} 時介於 {low} 與 {high} 之間。",
        "zh-Hans": "公布的只有一格（{increment}）；离开这一格，不同解读便分开：在 {at} 时介于 {low} 与 {high} 之间。",
    },
    "break_even": {
        "en": "It breaks even at {cash} on cash cost and at {full} once depreciation is counted.",
        "zh-Hant": "以現金成本計，損益兩平價為 {cash}；計入折舊則為 {full}。",
        "zh-Hans": "以现金成本计，盈亏平衡价为 {cash}；计入折旧则为 {full}。",
    },
    "break_even_cash": {
        "en": "It breaks even at {cash} on cash cost.",
        "zh-Hant": "以現金成本計，損益兩平價為 {cash}。",
        "zh-Hans": "以现金成本计，盈亏平衡价为 {cash}。",
    },
    "comparables": {
        "en": "Comparable deals run from {low} ({low_title}) to {high} ({high_title}), on bases that differ.",
        "zh-Hant": "可比交易的價格從 {low}（{low_title}）到 {high}（{high_title}），口徑並不相同。",
        "zh-Hans": "可比交易的价格从 {low}（{low_title}）到 {high}（{high_title}），口径并不相同。",
    },
    "capex": {
        "en": "Capex over the path is {total}; temporary leasing changes it by {change}.",
        "zh-Hant": "期間資本支出合計 {total}；臨時出租使其變動 {change}。",
        "zh-Hans": "期间资本开支合计 {total}；临时出租使其变动 {change}。",
    },
    "permanent": {
        "en": "Capacity that is built to be let would add {change} to it.",
        "zh-Hant": "若為出租而專門興建，則會再增加 {change}。",
        "zh-Hans": "若为出租而专门兴建，则会再增加 {change}。",
    },
    "channels": {
        "en": "A managed service beats {title} ({raw}) only above {throughput}.",
        "zh-Hant": "代管模型服務要高於 {throughput}，收入才會超過裸算力出租（{title}，{raw}）。",
        "zh-Hans": "托管模型服务要高于 {throughput}，收入才会超过裸算力出租（{title}，{raw}）。",
    },
    "customers": {
        "en": "Potential competitors hold {share} of {seller}'s backlog of {backlog}; "
        "its concentration (HHI) lies between {low} and {high}.",
        "zh-Hant": "{seller} 的未履行訂單為 {backlog}，其中潛在競爭者占 {share}；集中度（HHI）介於 {low} 與 {high} 之間。",
        "zh-Hans": "{seller} 的未履行订单为 {backlog}，其中潜在竞争者占 {share}；集中度（HHI）介于 {low} 与 {high} 之间。",
    },
    "concentration": {
        "en": "The concentration of {seller}'s backlog of {backlog} (HHI) lies between {low} and {high}.",
        "zh-Hant": "{seller} 的未履行訂單為 {backlog}，集中度（HHI）介於 {low} 與 {high} 之間。",
        "zh-Hans": "{seller} 的未履行订单为 {backlog}，集中度（HHI）介于 {low} 与 {high} 之间。",
    },
    "surplus_no_glut": {
        "en": "The owner has surplus ({idle} idle in {window}), and still no industry glut is shown: slack there is {slack}.",
        "zh-Hant": "業主有閒置（{window} 閒置 {idle}），但並不表示產業過剩：該時段產業餘裕為 {slack}。",
        "zh-Hans": "业主有闲置（{window} 闲置 {idle}），但并不表示行业过剩：该时段行业余量为 {slack}。",
    },
    "surplus_glut": {
        "en": "The owner has surplus ({idle} idle in {window}), and the industry's slack of {slack} there meets the test for a glut.",
        "zh-Hant": "業主有閒置（{window} 閒置 {idle}），且該時段產業餘裕 {slack} 符合過剩的判準。",
        "zh-Hans": "业主有闲置（{window} 闲置 {idle}），且该时段行业余量 {slack} 符合过剩的判准。",
    },
    "no_surplus": {
        "en": "The owner has no surplus ({idle} idle in {window}); the industry's slack there is {slack}.",
        "zh-Hant": "業主沒有閒置（{window} 閒置 {idle}）；該時段產業餘裕為 {slack}。",
        "zh-Hans": "业主没有闲置（{window} 闲置 {idle}）；该时段行业余量为 {slack}。",
    },
    "slip": {
        "en": "{title}: the price was printed as {printed}, the deal's own terms give {calculated}, a slip of {factor}x ({kind}).",
        "zh-Hant": "{title}：報導的價格是 {printed}，按交易本身條件計算應為 {calculated}，相差 {factor} 倍（{kind}）。",
        "zh-Hans": "{title}：报道的价格是 {printed}，按交易本身条件计算应为 {calculated}，相差 {factor} 倍（{kind}）。",
    },
    "mismatch": {
        "en": "{title}: the price was printed as {printed}, its own deal gives {calculated}; they differ by a factor of {factor}.",
        "zh-Hant": "{title}：報導的價格是 {printed}，按交易本身條件計算為 {calculated}，兩者為 {factor} 倍之差。",
        "zh-Hans": "{title}：报道的价格是 {printed}，按交易本身条件计算为 {calculated}，两者为 {factor} 倍之差。",
    },
    "not_added": {
        "en": "{first} ({first_id}) and {second} ({second_id}) measure different things and are not added.",
        "zh-Hant": "{first}（{first_id}）與 {second}（{second_id}）衡量的不是同一件事，不能相加。",
        "zh-Hans": "{first}（{first_id}）与 {second}（{second_id}）衡量的不是同一件事，不能相加。",
    },
    "tornado": {
        "en": "Nothing moves the result more than {input}: from {low} to {high} it goes from {at_low} to {at_high}, "
        "against {result}.",
        "zh-Hant": "影響最大的是 {input}：從 {low} 到 {high}，結果由 {at_low} 變為 {at_high}，基準為 {result}。",
        "zh-Hans": "影响最大的是 {input}：从 {low} 到 {high}，结果由 {at_low} 变为 {at_high}，基准为 {result}。",
    },
    "odds": {
        "en": "The probability of the claim under test is {now}; with every signal read bear it would be {bear}, "
        "with every one read bull {bull}.",
        "zh-Hant": "受檢主張成立的機率為 {now}；若所有訊號都偏空則為 {bear}，都偏多則為 {bull}。",
        "zh-Hans": "受检主张成立的概率为 {now}；若所有信号都偏空则为 {bear}，都偏多则为 {bull}。",
    },
    "signal": {
        "en": "{title} (due {due}): read bear with all others bull, the probability becomes {odds}.",
        "zh-Hant": "{title}（截止 {due}）：若唯獨它偏空、其餘偏多，機率將為 {odds}。",
        "zh-Hans": "{title}（截止 {due}）：若唯独它偏空、其余偏多，概率将为 {odds}。",
    },
}
