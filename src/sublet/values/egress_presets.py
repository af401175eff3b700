"""The allow lists that Sublet ships, by name. An operator adds others, or replaces one of these, as `egress.lists`."""

from __future__ import annotations

from collections.abc import Mapping

PRESETS: Mapping[str, tuple[str, ...]] = {
    "huggingface": ("huggingface.co:443", "*.huggingface.co:443", "*.hf.co:443"),
    "git": (
        "github.com:443",
        "codeload.github.com:443",
        "raw.githubusercontent.com:443",
        "objects.githubusercontent.com:443",
        "release-assets.githubusercontent.com:443",
        "gitlab.com:443",
        "bitbucket.org:443",
        "codeberg.org:443",
    ),
}

OF_THE_MACHINE: Mapping[str, str] = {
    "pypi": "pip's configuration (index-url)",
    "conda": "conda's configuration (channels in .condarc)",
    "apt": "apt's sources (/etc/apt/sources.list.d)",
}
"""Lists whose hosts are what this machine's own package managers are configured to use, and where that is read."""
