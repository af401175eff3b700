"""The briefing's sentences in each language. `{name}` stands for a number or a title that the case gives."""

from __future__ import annotations

import re
from collections.abc import Mapping

Phrases = Mapping[str, Mapping[str, str]]

PARTS: Phrases = {
    "claim": {"en": "The claim", "zh-Hant": "主要論點", "zh-Hans": "主要观点"},
    "numbers": {"en": "What the numbers say", "zh-Hant": "數字顯示", "zh-Hans": "数字显示"},
    "sources": {
        "en": "Where sources disagree or slip",
        "zh-Hant": "資料來源的分歧與誤植",
        "zh-Hans": "资料来源的分歧与笔误",
    },
    "change": {"en": "What would change the answer", "zh-Hant": "哪些因素會改變結論", "zh-Hans": "哪些因素会改变结论"},
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
    "decision": {"en": "The lease decision", "zh-Hant": "出租或自用", "zh-Hans": "出租或自用"},
    "capex": {"en": "The capital section", "zh-Hant": "資本支出", "zh-Hans": "资本开支"},
    "channels": {"en": "Raw against managed", "zh-Hant": "裸算力與代管服務之比較", "zh-Hans": "裸算力与托管服务之比较"},
    "counterparties": {"en": "The counterparties", "zh-Hant": "交易對手", "zh-Hans": "交易对手"},
    "signals": {"en": "The signal board", "zh-Hant": "訊號表", "zh-Hans": "信号表"},
    "positioning": {"en": "Positioning", "zh-Hant": "部位", "zh-Hans": "仓位"},
    "verdicts": {"en": "A verdict", "zh-Hant": "判斷", "zh-Hans": "判断"},
    "surplus": {"en": "A case of surplus and glut", "zh-Hant": "閒置與過剩的判斷", "zh-Hans": "闲置与过剩的判断"},
    "monte_carlo": {"en": "The simulation", "zh-Hant": "模擬", "zh-Hans": "模拟"},
    "scenarios": {"en": "A scenario", "zh-Hant": "情境", "zh-Hans": "情景"},
    "formulas": {"en": "A formula", "zh-Hant": "公式", "zh-Hans": "公式"},
}
"""What each part of a case is called where it can't be calculated."""

STATUS_WORDS: Phrases = {
    "assumption": {"en": "assumed in this case", "zh-Hant": "本案假設", "zh-Hans": "本案假设"},
    "modeled": {"en": "modeled on assumptions of this case", "zh-Hant": "依本案假設推算", "zh-Hans": "按本案假设测算"},
    "bound": {"en": "a limit, not an estimate", "zh-Hant": "僅為界限，並非預估", "zh-Hans": "仅为界限，并非预测"},
    "external": {"en": "from other public sources", "zh-Hant": "依其他公開資料", "zh-Hans": "据其他公开资料"},
    "derived": {"en": "arithmetic on published numbers", "zh-Hant": "依已公布數字推算", "zh-Hans": "按已公布数字推算"},
    "published": {"en": "as published", "zh-Hant": "已公布", "zh-Hans": "已公布"},
}
"""How far a sentence can be trusted, the weakest first: what it says of its weakest number."""

HEAD: Mapping[str, str] = {
    "en": "{owner}, as of {as_of}. Case {name} version {version}, hash {digest}.",
    "zh-Hant": "{owner}，資料截至{as_of}。案例 {name} 第{version}版，雜湊值 {digest}。",
    "zh-Hans": "{owner}，数据截至{as_of}。案例 {name} 第{version}版，哈希值 {digest}。",
}

SENTENCES: Phrases = {
    "bridge": {
        "en": "Leasing {power} for a year at {price} would give {result} after an incremental cost of {cost}. That treats the "
        "capacity as already paid for.",
        "zh-Hant": "以{price}出租{power}一年，扣除增量成本（{cost}）後，推算可挹注獲利{result}；既有算力的投資視為沉沒成本。",
        "zh-Hans": "以{price}出租{power}一年，扣除增量成本（{cost}）后，测算可增厚收益{result}；存量算力的投入视为沉没成本。",
    },
    "one_cell": {
        "en": "Only one case is published ({increment}). At {at}, the result runs from {low} to {high}, depending on the cost "
        "assumed.",
        "zh-Hant": "原始資料只公布一種情境（{increment}）。若租金為{at}，依成本假設不同，推算介於{low}至{high}。",
        "zh-Hans": "原文只公布了一种情景（{increment}）。若租金为{at}，按不同成本假设，测算在{low}至{high}之间。",
    },
    "break_even": {
        "en": "It breaks even at {cash} on cash cost, and at {full} once depreciation is counted.",
        "zh-Hant": "以現金成本計，損益兩平價為{cash}；計入折舊後為{full}。",
        "zh-Hans": "按现金成本计，盈亏平衡价为{cash}；计入折旧后为{full}。",
    },
    "break_even_cash": {
        "en": "It breaks even at {cash} on cash cost.",
        "zh-Hant": "以現金成本計，損益兩平價為{cash}。",
        "zh-Hans": "按现金成本计，盈亏平衡价为{cash}。",
    },
    "decision": {
        "en": "Leasing {power} beats keeping it for the owner's own work as long as the rent is above {price}: {displaced} of the "
        "leased hours would have gone to own work, worth {worth}.",
        "zh-Hant": "租金只要高於{price}，出租{power}就優於自用：出租時數有{displaced}原可供自身工作使用，價值為{worth}。",
        "zh-Hans": "租金只要高于{price}，出租{power}就优于自用：出租时数有{displaced}原可供自身工作使用，价值为{worth}。",
    },
    "comparables": {
        "en": "Comparable deals run from {low} ({low_title}) to {high} ({high_title}), measured on bases that differ.",
        "zh-Hant": "可比交易的租金從{low}（{low_title}）到{high}（{high_title}），計算基礎並不一致。",
        "zh-Hans": "可比交易的租金从{low}（{low_title}）到{high}（{high_title}），口径并不一致。",
    },
    "capex": {
        "en": "Capex from {first} to {last} comes to {total}; leasing idle capacity for a time leaves it as it is.",
        "zh-Hant": "{first}至{last}年資本支出合計{total}，短期出租閒置算力不影響這項數字。",
        "zh-Hans": "{first}至{last}年资本开支合计{total}，短期出租闲置算力不影响这一数字。",
    },
    "permanent": {
        "en": "Capacity that is built to be let would add {change} to capex.",
        "zh-Hant": "若專為出租而擴建，資本支出將再增加{change}。",
        "zh-Hans": "若专为出租而新建，资本开支将再增加{change}。",
    },
    "channels": {
        "en": "A managed model service earns more than {title} ({raw}) only above {throughput}.",
        "zh-Hant": "代管模型服務的吞吐量須高於{throughput}，營收才會超過裸機算力出租（{title}，{raw}）。",
        "zh-Hans": "托管模型服务的吞吐量须高于{throughput}，营收才会超过裸算力租赁（{title}，{raw}）。",
    },
    "customers": {
        "en": "Potential competitors make up {share} of {seller}'s backlog of {backlog}; "
        "its concentration (HHI, from 0 to 1) lies between {low} and {high}.",
        "zh-Hant": "{seller}的在手訂單為{backlog}，其中{share}來自潛在競爭對手；客戶集中度（HHI，0至1）介於{low}至{high}。",
        "zh-Hans": "{seller}的在手订单为{backlog}，其中{share}来自潜在竞争对手；客户集中度（HHI，0至1）在{low}至{high}之间。",
    },
    "concentration": {
        "en": "The concentration of {seller}'s backlog of {backlog} (HHI, from 0 to 1) lies between {low} and {high}.",
        "zh-Hant": "{seller}的在手訂單為{backlog}，客戶集中度（HHI，0至1）介於{low}至{high}。",
        "zh-Hans": "{seller}的在手订单为{backlog}，客户集中度（HHI，0至1）在{low}至{high}之间。",
    },
    "verdict": {
        "en": "{question} The evidence so far puts it at {probability}, from {prior} before: {word}, to be settled by {by}. "
        "Without one piece of it ({evidence}) it would be {without}.",
        "zh-Hant": "{question}依現有佐證判斷為{probability}（起始假設為{prior}），{word}，{by}前可見分曉；"
        "若排除其中一項（{evidence}），則為{without}。",
        "zh-Hans": "{question}依现有证据判断为{probability}（初始假设为{prior}），{word}，{by}前可见分晓；"
        "若剔除其中一项（{evidence}），则为{without}。",
    },
    "verdict_bare": {
        "en": "{question} It is put at {probability}, from {prior} before, without any evidence that counts: {word}, to be settled "
        "by {by}.",
        "zh-Hant": "{question}目前沒有可採計的佐證，判斷為{probability}（起始假設為{prior}），{word}，{by}前可見分曉。",
        "zh-Hans": "{question}目前没有可采信的证据，判断为{probability}（初始假设为{prior}），{word}，{by}前可见分晓。",
    },
    "surplus_no_glut": {
        "en": "{owner} has {idle} idle in {window}; the industry's slack of {slack} then does not meet the test for a glut.",
        "zh-Hant": "{window}{owner}有{idle}閒置；同期產業餘裕為{slack}，未達供過於求的標準。",
        "zh-Hans": "{window}{owner}有{idle}闲置；同期行业富余为{slack}，未达到供过于求的标准。",
    },
    "surplus_shortage": {
        "en": "{owner} has {idle} idle in {window}, while the industry's demand exceeds usable capacity by {slack}: "
        "idle capacity is not a glut.",
        "zh-Hant": "{window}{owner}有{idle}閒置，同期產業需求卻比可用產能高出{slack}；有閒置並不等於供過於求。",
        "zh-Hans": "{window}{owner}有{idle}闲置，同期行业需求却比可用产能高{slack}；有闲置并不等于供过于求。",
    },
    "surplus_glut": {
        "en": "{owner} has {idle} idle in {window}, and the industry's slack of {slack} then meets the test for a glut.",
        "zh-Hant": "{window}{owner}有{idle}閒置；同期產業餘裕達{slack}，符合供過於求的標準。",
        "zh-Hans": "{window}{owner}有{idle}闲置；同期行业富余达{slack}，符合供过于求的标准。",
    },
    "no_surplus": {
        "en": "{owner} has nothing to spare ({idle} idle in {window}); the industry's slack then is {slack}.",
        "zh-Hant": "{window}{owner}沒有多餘算力（閒置{idle}）；同期產業餘裕為{slack}。",
        "zh-Hans": "{window}{owner}没有富余算力（闲置{idle}）；同期行业富余为{slack}。",
    },
    "no_surplus_shortage": {
        "en": "{owner} has nothing to spare ({idle} idle in {window}), and the industry's demand exceeds usable capacity by {slack}.",
        "zh-Hant": "{window}{owner}沒有多餘算力（閒置{idle}）；同期產業需求比可用產能高出{slack}。",
        "zh-Hans": "{window}{owner}没有富余算力（闲置{idle}）；同期行业需求比可用产能高{slack}。",
    },
    "slip": {
        "en": "{title}: the price was printed as {printed}; the deal's own terms give {calculated}, a factor of {factor} ({kind}).",
        "zh-Hant": "{title}：報導的租金為{printed}，依交易條件計算應為{calculated}，相差{factor}倍（{kind}）。",
        "zh-Hans": "{title}：报道的租金为{printed}，按交易条件计算应为{calculated}，相差{factor}倍（{kind}）。",
    },
    "mismatch": {
        "en": "{title}: the price was printed as {printed}; its own deal gives {calculated}, a factor of {factor} apart.",
        "zh-Hant": "{title}：報導的租金為{printed}，依交易條件計算為{calculated}，兩者相差{factor}倍。",
        "zh-Hans": "{title}：报道的租金为{printed}，按交易条件计算为{calculated}，两者相差{factor}倍。",
    },
    "not_added": {
        "en": "{first_title} ({first}) and {second_title} ({second}) measure different things and are not added.",
        "zh-Hant": "{first_title}（{first}）與{second_title}（{second}）衡量的不是同一件事，不能相加。",
        "zh-Hans": "{first_title}（{first}）与{second_title}（{second}）衡量的不是同一件事，不能相加。",
    },
    "tornado": {
        "en": "Nothing moves the result more than {input}: from {low} to {high} it goes from {at_low} to {at_high}, against {result}.",
        "zh-Hant": "影響最大的是{input}：由{low}變為{high}時，結果由{at_low}變為{at_high}（基準為{result}）。",
        "zh-Hans": "影响最大的是{input}：由{low}变为{high}时，结果由{at_low}变为{at_high}（基准为{result}）。",
    },
    "odds": {
        "en": "The probability of the claim under test is put at {now}; it would be {bear} with every signal bearish and {bull} with "
        "every one bullish.",
        "zh-Hant": "目前對此主張成立的機率判斷為{now}；若訊號全部偏空則為{bear}，全部偏多則為{bull}。",
        "zh-Hans": "目前对此主张成立的概率判断为{now}；若信号全部偏空则为{bear}，全部偏多则为{bull}。",
    },
    "signal": {
        "en": "{title} (due {due}): if it alone turns bearish and the rest bullish, the probability becomes {odds}.",
        "zh-Hant": "{title}（{due}前揭曉）：若只有這一項偏空、其餘偏多，機率為{odds}。",
        "zh-Hans": "{title}（{due}前落地）：若仅这一项偏空、其余偏多，概率为{odds}。",
    },
}

VERDICT_WORDS: Phrases = {
    "shown": {"en": "shown", "zh-Hant": "佐證充分", "zh-Hans": "证据充分"},
    "not shown": {"en": "not shown", "zh-Hant": "尚不成立", "zh-Hans": "尚不成立"},
    "open": {"en": "open", "zh-Hant": "尚無定論", "zh-Hans": "尚无定论"},
}

METRICS: Phrases = {
    "it_capacity_stock": {"en": "IT capacity in place", "zh-Hant": "現有IT設備用電規模", "zh-Hans": "现有IT负荷"},
    "it_capacity_add": {"en": "IT capacity to be added", "zh-Hant": "新增IT設備用電規模", "zh-Hans": "新增IT负荷"},
    "footprint_stock": {"en": "total footprint", "zh-Hant": "總用電規模", "zh-Hans": "总用电规模"},
    "footprint_add": {
        "en": "additions to the total footprint",
        "zh-Hant": "新增總用電規模",
        "zh-Hans": "新增总用电规模",
    },
    "utility_capacity_stock": {
        "en": "capacity at the utility's meter",
        "zh-Hant": "電表端用電規模",
        "zh-Hans": "市电侧用电规模",
    },
    "contracted_power": {"en": "contracted power", "zh-Hant": "已簽約電力", "zh-Hans": "已签约电力"},
    "contracted_demand": {"en": "contracted demand", "zh-Hant": "已簽約需求", "zh-Hans": "已签约需求"},
}
"""What common metrics of statements are called; others are told by the case's own words."""

SLIP_KINDS: Phrases = {
    "month for a year": {"zh-Hant": "把每月當成每年", "zh-Hans": "把每月当成每年"},
    "quarter for a year": {"zh-Hant": "把每季當成每年", "zh-Hans": "把每季度当成每年"},
    "week for a year": {"zh-Hant": "把每週當成每年", "zh-Hans": "把每周当成每年"},
    "day for a year": {"zh-Hant": "把每日當成每年", "zh-Hans": "把每日当成每年"},
    "hour for a year": {"zh-Hant": "把每小時當成每年", "zh-Hans": "把每小时当成每年"},
    "hour for a month": {"zh-Hant": "把每小時當成每月", "zh-Hans": "把每小时当成每月"},
    "day count 360/365": {"zh-Hant": "一年以360日或365日計", "zh-Hans": "一年按360天或365天计"},
    "leap day": {"zh-Hant": "閏日", "zh-Hans": "闰日"},
    "percent for a fraction": {"zh-Hant": "百分比誤作小數", "zh-Hans": "百分比误作小数"},
    "basis points for percent": {"zh-Hant": "基點誤作百分比", "zh-Hans": "基点误作百分比"},
    "bit for a byte": {"zh-Hant": "位元誤作位元組", "zh-Hans": "比特误作字节"},
    "kB for KiB": {"zh-Hant": "kB誤作KiB", "zh-Hans": "kB误作KiB"},
    "MB for MiB": {"zh-Hant": "MB誤作MiB", "zh-Hans": "MB误作MiB"},
    "GB for GiB": {"zh-Hant": "GB誤作GiB", "zh-Hans": "GB误作GiB"},
    "TB for TiB": {"zh-Hant": "TB誤作TiB", "zh-Hans": "TB误作TiB"},
    "億 read as billion": {"zh-Hant": "「億」誤作十億", "zh-Hans": "“亿”误作十亿"},
    "億 read as million": {"zh-Hant": "「億」誤作百萬", "zh-Hans": "“亿”误作百万"},
    "萬 dropped": {"zh-Hant": "漏了「萬」", "zh-Hans": "漏了“万”"},
    "兆 (10^12) read as mega or million": {"zh-Hant": "「兆」（10^12）誤作百萬", "zh-Hans": "“兆”（10^12）误作百万"},
    "億 dropped": {"zh-Hant": "漏了「億」", "zh-Hans": "漏了“亿”"},
    "unit prefix (k, M, G; million, billion)": {"zh-Hant": "數量級誤植（k、M、G）", "zh-Hans": "数量级有误（k、M、G）"},
    "two unit prefixes": {"zh-Hant": "差了兩個數量級詞頭", "zh-Hans": "差了两个数量级词头"},
    "watt for gigawatt": {"zh-Hant": "瓦誤作GW", "zh-Hans": "瓦误作吉瓦"},
    "three unit prefixes": {"zh-Hant": "差了三個數量級詞頭", "zh-Hans": "差了三个数量级词头"},
    "sign": {"zh-Hant": "正負號相反", "zh-Hans": "正负号相反"},
    "suspected basis (PUE)": {"zh-Hant": "計算基礎可能不同（PUE）", "zh-Hans": "口径可能不同（PUE）"},
    "small mismatch": {"zh-Hant": "略有出入", "zh-Hans": "略有出入"},
    "terms differ": {"zh-Hant": "條件不同", "zh-Hans": "条件不同"},
}
"""What slips are called in Chinese; a power of ten and a currency are composed, and English says what `slips` says."""


def slip_kind(kind: str, language: str) -> str:
    """A slip's name in a language; where two explain it alike, both."""
    if language == "en":
        return kind
    parts = re.split(r"(?<!mega) or ", kind)
    return "或".join(_slip_kind(part, language) for part in parts)


def _slip_kind(kind: str, language: str) -> str:
    if kind in SLIP_KINDS:
        return SLIP_KINDS[kind][language]
    power = re.search(r"10\^(\d+)", kind)
    zeros = {"zh-Hant": "差{}個零", "zh-Hans": "差{}个零"}[language].format(power[1]) if power else ""
    if kind.startswith("month for a year"):
        return f"{SLIP_KINDS['month for a year'][language]}，{zeros}"
    return zeros or {"zh-Hant": "幣別誤植：{}", "zh-Hans": "币种有误：{}"}[language].format(
        kind.removeprefix("currency ")
    )
