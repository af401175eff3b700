"""The operator's web pages."""

from sublet.console.model import Overview
from sublet.console.page import Page
from sublet.console.pages import router
from sublet.console.sessions import Sessions

__all__ = ["Overview", "Page", "Sessions", "router"]
