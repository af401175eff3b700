"""Factur-X 1.0 (ZUGFeRD 2.3): the PDF that people read, as PDF/A-3 with the CII e-invoice embedded for machines.

The PDF/A comes from fpdf2; its metadata and attachment follow the Factur-X specification, chapter 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from fpdf.enums import AssociatedFileRelationship, DocumentCompliance

from sublet.ledger.invoices.cii import cii_xml
from sublet.ledger.invoices.einvoice import EInvoiceError
from sublet.ledger.invoices.fonts import FOLDERS, faces_for
from sublet.ledger.invoices.logos import Logo
from sublet.ledger.invoices.page import title_of
from sublet.ledger.invoices.pdf import Paper, draw, texts_of
from sublet.ledger.invoices.readable import readable

FILE_NAME = "factur-x.xml"
_SCHEMA = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = (
    ("DocumentFileName", "The name of the embedded XML document", FILE_NAME),
    ("DocumentType", "The type of the hybrid document", "INVOICE"),
    ("Version", "The version of the Factur-X standard", "1.0"),
    ("ConformanceLevel", "The profile of the Factur-X standard", "EN 16931"),
)


def factur_x(document: Mapping[str, Any], folders: Sequence[str] = FOLDERS, *, logo: Logo | None = None) -> bytes:
    """A final invoice or credit note as Factur-X. Raises EInvoiceError, also where this machine has no font to embed, which PDF/A
    asks for."""
    xml = cii_xml(document)
    read = readable(document)
    # PDF/A embeds every font: a sign outside Latin-1 makes even Latin texts look for one.
    faces = faces_for(texts_of(read) + "–", folders)
    if not faces:
        raise EInvoiceError("a PDF/A embeds its fonts and there are none here; install DejaVu (fonts-dejavu-core)")
    paper = Paper(faces, read, enforce_compliance=DocumentCompliance.PDFA_3B)
    draw(paper, read, logo)
    paper.embed_file(
        bytes=xml,
        basename=FILE_NAME,
        desc=title_of(document, read.words),
        mime_type="text/xml",
        associated_file_relationship=AssociatedFileRelationship.ALTERNATIVE.value,
    )
    paper.set_xmp_metadata(_xmp(title_of(document, read.words), document["issuer"]["name"]))
    return bytes(paper.output())


def _xmp(title: str, author: str) -> str:
    """XMP as PDF/A-3 and Factur-X ask for it: part and conformance, and the extension schema with its four properties."""
    described = "".join(
        f'<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>'
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{meaning}</pdfaProperty:description></rdf:li>"
        for name, meaning, _ in _PROPERTIES
    )
    stated = "".join(f"<fx:{name}>{value}</fx:{name}>" for name, _, value in _PROPERTIES)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/"><pdfaid:part>3</pdfaid:part>'
        "<pdfaid:conformance>B</pdfaid:conformance></rdf:Description>"
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{escape(title)}</rdf:li></rdf:Alt></dc:title><dc:creator><rdf:Seq>'
        f"<rdf:li>{escape(author)}</rdf:li></rdf:Seq></dc:creator></rdf:Description>"
        '<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" '
        'xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">'
        '<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">'
        f"<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema><pdfaSchema:namespaceURI>{_SCHEMA}"
        "</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>"
        f"{described}</rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"
        f'<rdf:Description rdf:about="" xmlns:fx="{_SCHEMA}">{stated}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )
