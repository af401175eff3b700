"""Words that give a converted text away: what Shanghai says, in Taipei's characters, and the other way round."""

from __future__ import annotations

ELSEWHERE = {
    "zh-Hant": (
        "資本開支 運營費用 營業利潤率 淨利潤 息稅前利潤 每股收益 增厚 業績指引 一致預期 上調 下調 超預期 不及預期 買入 "
        "跑贏 跑輸 市盈率 估值倍數 使用年限 投資批次 盈虧平衡 貼現 內部收益率 合同 財年 二季度 同比 環比 個基點 "
        "對沖基金 倉位 空頭 多頭 去杠杆 拋售 調倉 利好 分位數 概率 似然比 置信區間 蒙特卡洛 情景 拐點 行業 富餘算力 "
        "富余 供應緊張 擠佔 數據中心 智能體 托管 卡時 按需 負荷 口徑 兆瓦 吉瓦 利用率 芯片 存儲 服務器 網絡 硬件 軟件 "
        "英偉達 扎克伯格 賬單 信號 證據 證偽 測算 筆誤 收益率 個百分點點 內存 橋 進行 被 這裡把 臺帳 台賬"
    ).split(),
    "zh-Hans": (
        "资本支出 营业费用 营业利益 每股盈余 财测 上修 下修 优于预期 不如预期 买进 优于大盘 本益比 评价倍数 耐用年限 "
        "损益两平 资金成本 内部报酬率 合约 会计年度 年增 季增 避险基金 部位 空单 空方 多方 卖压 利多 利空 百分位 机率 "
        "概似比 信赖区间 蒙地卡罗 情境 转折点 产业 多余算力 排挤 资料中心 云端 裸机 代管 GPU小时 随需 使用率 晶片 "
        "记忆体 伺服器 讯号 网路 硬体 软体 辉达 祖克柏 帐单 佐证 反证 误植 推论 挹注 推估 桥 进行 被 这里把"
    ).split(),
}  # fmt: skip
CHARSETS = {"zh-Hant": "cp950", "zh-Hans": "gb2312"}
"""Each script's own character set refuses characters that only the other writes."""

NAMES = set(
    "Meta CoreWeave OpenAI Anthropic xAI AWS UBS Google Microsoft SpaceX IREN Oracle Nebius AI GPU GB200 H100 H200 A100 B200 HHI PUE "
    "EPS IT MW GW MWh kW token Codex Muse Spark ARR EIA Uptime JPM Odaily HY RPO CRWV NBIS Amazon JSON XLSX Sublet TPUv7 gpt oss 120b "
    "137x 189x dB sublet desk block advise explain Epoch".split()
)  # fmt: skip
"""Names, tickers and symbols, which are the same in every language."""
