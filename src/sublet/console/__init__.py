"""The web pages: the operator's, and those on which customers and people act."""

from sublet.console.model import Overview
from sublet.console.page import Page, Screen

__all__ = ["Overview", "Page", "Screen"]
