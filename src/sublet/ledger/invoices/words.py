"""The words, numbers and dates of invoices in each language. The English text is the key; a test keeps every catalog whole.

Terms follow EN 16931 and what tax offices call them; numbers and dates are in the usual form of each language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

LANGUAGES = ("en", "de", "fr", "es", "ja", "zh-Hans", "zh-Hant")
DEFAULT = "en"
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
NO_BREAK = "\N{NO-BREAK SPACE}"

# In the order of LANGUAGES, English left out.
TEXTS: dict[str, tuple[str, str, str, str, str, str]] = {
    "Invoice": ("Rechnung", "Facture", "Factura", "請求書", "发票", "發票"),
    "Credit note": ("Gutschrift", "Avoir", "Factura rectificativa", "貸方票", "贷项通知单", "貸項通知單"),
    "Draft": ("Entwurf", "Brouillon", "Borrador", "下書き", "草稿", "草稿"),
    "final": ("endgültig", "définitive", "definitiva", "確定", "正式", "正式"),
    "paid": ("bezahlt", "payée", "pagada", "支払済み", "已付款", "已付款"),
    "void": ("ungültig", "annulée", "anulada", "無効", "已作废", "已作廢"),
    "issued": ("ausgestellt", "émis", "emitida", "発行済み", "已开具", "已開立"),
    "written off": ("abgeschrieben", "passée en perte", "dada de baja", "貸倒処理済み", "已核销", "已沖銷"),
    "From": ("Von", "De", "De", "発行者", "开票方", "開立人"),
    "To": ("An", "À", "Para", "請求先", "收票方", "收受人"),
    "Billing period": (
        "Abrechnungszeitraum",
        "Période de facturation",
        "Período de facturación",
        "請求期間",
        "计费周期",
        "計費期間",
    ),
    "Date": ("Datum", "Date", "Fecha", "発行日", "开具日期", "開立日期"),
    "Due date": (
        "Fällig am",
        "Date d’échéance",
        "Fecha de vencimiento",
        "支払期限",
        "付款期限",
        "付款期限",
    ),
    "Your reference": (
        "Ihre Referenz",
        "Votre référence",
        "Su referencia",
        "お客様参照番号",
        "贵方参考号",
        "貴方參考號",
    ),
    "VAT ID": ("USt-IdNr.", "N° TVA", "NIF-IVA", "VAT番号", "增值税号", "加值稅號"),
    "Tax number": ("Steuernummer", "Numéro fiscal", "Número fiscal", "税務番号", "税号", "稅號"),
    "Description": ("Bezeichnung", "Désignation", "Descripción", "内容", "项目", "項目"),
    "Quantity": ("Menge", "Quantité", "Cantidad", "数量", "数量", "數量"),
    "Price": ("Preis", "Prix", "Precio", "単価", "单价", "單價"),
    "Amount": ("Betrag", "Montant", "Importe", "金額", "金额", "金額"),
    "By project": ("Nach Projekt", "Par projet", "Por proyecto", "プロジェクト別", "按项目统计", "依專案統計"),
    "Project": ("Projekt", "Projet", "Proyecto", "プロジェクト", "项目", "專案"),
    "No project": ("Ohne Projekt", "Sans projet", "Sin proyecto", "プロジェクトなし", "无项目", "無專案"),
    "Subtotal": ("Zwischensumme", "Sous-total", "Subtotal", "小計", "小计", "小計"),
    "Credit": ("Guthaben", "Crédit", "Crédito", "クレジット", "抵扣额", "抵扣額"),
    "Rounding": ("Rundung", "Arrondi", "Redondeo", "端数処理", "尾差", "尾差"),
    "Net": ("Netto", "Total HT", "Base imponible", "税抜金額", "不含税金额", "未稅金額"),
    "Total": ("Gesamtbetrag", "Total TTC", "Total", "合計", "合计", "合計"),
    "Paid in advance": ("Vorausgezahlt", "Payé d’avance", "Pagado por anticipado", "前払金", "预付款", "預付款"),
    "To pay": ("Zu zahlen", "À payer", "A pagar", "お支払金額", "应付金额", "應付金額"),
    "Returned to what was paid in advance": (
        "Zurück auf das Vorausgezahlte",
        "Remis sur l’avance",
        "Devuelto al anticipo",
        "前払金への返還",
        "退回预付款",
        "退回預付款",
    ),
    "Deducted from what is open": (
        "Vom offenen Betrag abgezogen",
        "Déduit du montant dû",
        "Deducido de lo pendiente",
        "未払額からの控除",
        "冲减未付金额",
        "沖減未付金額",
    ),
    "Owed to you": (
        "Ihr Guthaben",
        "À vous rembourser",
        "A su favor",
        "お客様への返金額",
        "应退还金额",
        "應退還金額",
    ),
    "Corrects {number} of {date} by {amount}": (
        "Berichtigt {number} vom {date} um {amount}",
        "Rectifie {number} du {date} de {amount}",
        "Rectifica {number} de {date} en {amount}",
        "{date}付{number}を{amount}訂正",
        "更正{date}的{number}，金额{amount}",
        "更正{date}的{number}，金額{amount}",
    ),
    "Carried over to your credits": (
        "Auf Ihr Guthaben übertragen",
        "Reporté sur votre crédit",
        "Trasladado a su crédito",
        "クレジットへ繰越",
        "结转至抵扣额",
        "結轉至抵扣額",
    ),
    "Reason": ("Grund", "Motif", "Motivo", "理由", "原因", "原因"),
    "Page {page} of {pages}": (
        "Seite {page} von {pages}",
        "Page {page} sur {pages}",
        "Página {page} de {pages}",
        "{page} / {pages} ページ",
        "第{page}页，共{pages}页",
        "第{page}頁，共{pages}頁",
    ),
    "Carried forward": ("Übertrag", "À reporter", "Suma y sigue", "次頁へ繰越", "转下页", "轉下頁"),
    "Brought forward": ("Übertrag", "Report", "Suma anterior", "前頁より繰越", "承上页", "承上頁"),
    "Bank details": (
        "Bankverbindung",
        "Coordonnées bancaires",
        "Datos bancarios",
        "振込先",
        "银行信息",
        "銀行資訊",
    ),
    "Payment reference": (
        "Verwendungszweck",
        "Référence de paiement",
        "Referencia de pago",
        "振込時の参照番号",
        "付款备注",
        "付款備註",
    ),
    "Exact amounts": ("Genaue Beträge", "Montants exacts", "Importes exactos", "正確な金額", "精确金额", "精確金額"),
    "Amounts are exact before rounding; lines are shown in whole units of the currency and sum to the net.": (
        "Gerechnet wird ohne Rundung; Positionen stehen in ganzen Einheiten der Währung und ergeben zusammen den Nettobetrag.",
        "Le calcul se fait sans arrondi ; les lignes sont en unités entières de la monnaie et leur somme est le total HT.",
        "Se calcula sin redondeo; las líneas están en unidades enteras de la moneda y suman la base imponible.",
        "計算は端数処理前の金額で行い、明細は通貨の最小単位で示し、その合計は税抜金額に一致します。",
        "计算使用未取整金额；各行以货币最小单位显示，合计等于不含税金额。",
        "計算使用未取整金額；各行以貨幣最小單位顯示，合計等於未稅金額。",
    ),
    "{count} accelerators": (
        "{count} Beschleuniger",
        "{count} accélérateurs",
        "{count} aceleradores",
        "アクセラレータ{count}基",
        "{count}个加速器",
        "{count}個加速器",
    ),
    "1 accelerator": (
        "1 Beschleuniger",
        "1 accélérateur",
        "1 acelerador",
        "アクセラレータ1基",
        "1个加速器",
        "1個加速器",
    ),
    "accelerator-hours": (
        "Beschleuniger-Stunden",
        "heures-accélérateur",
        "horas-acelerador",
        "アクセラレータ時間",
        "加速器小时",
        "加速器小時",
    ),
    "accelerator-hour": (
        "Beschleuniger-Stunde",
        "heure-accélérateur",
        "hora-acelerador",
        "アクセラレータ時間",
        "加速器小时",
        "加速器小時",
    ),
    "hours": ("Stunden", "heures", "horas", "時間", "小时", "小時"),
    "hour": ("Stunde", "heure", "hora", "時間", "小时", "小時"),
    "tokens": ("Token", "jetons", "tokens", "トークン", "个词元", "個詞元"),
    "million tokens": (
        "Million Token",
        "million de jetons",
        "millón de tokens",
        "100万トークン",
        "百万词元",
        "百萬詞元",
    ),
    "images": ("Bilder", "images", "imágenes", "画像", "张图像", "張影像"),
    "image": ("Bild", "image", "imagen", "画像", "张图像", "張影像"),
    "requests": ("Anfragen", "requêtes", "solicitudes", "リクエスト", "次请求", "次請求"),
    "request": ("Anfrage", "requête", "solicitud", "リクエスト", "次请求", "次請求"),
    "input tokens": ("Eingabe-Token", "jetons d’entrée", "tokens de entrada", "入力トークン", "输入词元", "輸入詞元"),
    "cached input tokens": (
        "Eingabe-Token aus dem Cache",
        "jetons d’entrée en cache",
        "tokens de entrada en caché",
        "キャッシュ済み入力トークン",
        "缓存输入词元",
        "快取輸入詞元",
    ),
    "output tokens": ("Ausgabe-Token", "jetons de sortie", "tokens de salida", "出力トークン", "输出词元", "輸出詞元"),
    "reasoning tokens": (
        "Reasoning-Token",
        "jetons de raisonnement",
        "tokens de razonamiento",
        "推論トークン",
        "推理词元",
        "推理詞元",
    ),
    "audio": ("Audio", "audio", "audio", "音声", "音频", "音訊"),
    "energy": ("Energie", "énergie", "energía", "電力", "电力", "電力"),
    "storage": ("Speicher", "stockage", "almacenamiento", "ストレージ", "存储", "儲存"),
    "accelerators": ("Beschleuniger", "accélérateurs", "aceleradores", "アクセラレータ", "加速器", "加速器"),
    "{price} per {unit}": (
        "{price} je {unit}",
        "{price} par {unit}",
        "{price} por {unit}",
        "{unit}あたり {price}",
        "每{unit} {price}",
        "每{unit} {price}",
    ),
    "less {percent} %": (
        "abzüglich {percent} %",
        "moins {percent} %",
        "menos {percent} %",
        "{percent} % 割引",
        "减{percent} %",
        "減{percent} %",
    ),
    "used in {month}, invoiced late": (
        "genutzt in {month}, nachberechnet",
        "consommé en {month}, facturé ultérieurement",
        "consumido en {month}, facturado con posterioridad",
        "{month}利用分（後日請求）",
        "{month}使用，补开",
        "{month}使用，補開",
    ),
}

_MONTHS = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(),
    "de": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sep. Okt. Nov. Dez.".split(),
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.".split(),
    "es": "ene feb mar abr may jun jul ago sep oct nov dic".split(),
}
_SEPARATORS = {"de": (".", ","), "es": (".", ","), "fr": (NO_BREAK, ",")}
"""Of thousands and of decimals, where they are not those of English."""


@dataclass(frozen=True, slots=True)
class Words:
    """How documents are written in one language."""

    language: str = DEFAULT

    def __call__(self, text: str, **values: object) -> str:
        """`text` in that language, with `values` in its places."""
        found = text if self.language == DEFAULT else TEXTS[text][LANGUAGES.index(self.language) - 1]
        return found.format(**values) if values else found

    def number(self, text: str) -> str:
        """A decimal string with its thousands grouped, digit by digit as it is; another text as it is."""
        if not _DECIMAL.fullmatch(text):
            return text
        sign = "-" if text.startswith("-") else ""
        whole, _, fraction = text.removeprefix("-").partition(".")
        thousands, point = _SEPARATORS.get(self.language, (",", "."))
        grouped = f"{int(whole or 0):,}".replace(",", thousands)
        return f"{sign}{grouped}" + (f"{point}{fraction}" if fraction else "")

    def day(self, day: date) -> str:
        """3 Dec 2026."""
        return self._written(day.year, day.month, str(day.day))

    def days(self, first: date, last: date) -> str:
        """3–6 Dec: days of one year, without it."""
        if first == last:
            return self._written(None, first.month, str(first.day))
        if first.month == last.month:
            return self._written(None, first.month, str(first.day), str(last.day))
        parts = (self._written(None, day.month, str(day.day)) for day in (first, last))
        return " – ".join(parts)

    def month(self, label: str) -> str:
        """The month of a label such as 2026-12."""
        year, month = label.split("-")
        if self.language in _MONTHS:
            return f"{_MONTHS[self.language][int(month) - 1]} {year}"
        return f"{year}年{int(month)}月"

    def _written(self, year: int | None, month: int, *days: str) -> str:
        if self.language not in _MONTHS:
            return (f"{year}年" if year else "") + f"{month}月" + "–".join(f"{day}日" for day in days)
        point = "." if self.language == "de" else ""
        named = "–".join(f"{day}{point}" for day in days)
        return f"{named} {_MONTHS[self.language][month - 1]}" + (f" {year}" if year else "")


def words_of(language: str) -> Words:
    """The words of a language tag; English for one that there is no catalog of."""
    return Words(language if language in LANGUAGES else DEFAULT)
