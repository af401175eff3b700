"""The same results as a page, a workbook, JSON and a page of text."""
