"""Whose things a request may change: a key with a project acts for that project alone.

What one organization has, all of it may see. Changing it spends the money of the project that pays for it.
"""

from __future__ import annotations

from sublet.values.errors import ForbiddenError


class OtherProjectError(ForbiddenError):
    """This key acts for one project, and another one pays for this; use a key of that project, or one without a project."""

    code = "other_project"


def refuse_other(what: str, paid_by: str, project: str) -> None:
    """Raises OtherProjectError where a key of `project` asks to change `what`, which `paid_by` pays for: another project, or where
    it is empty the organization itself. A key without a project changes everything of its organization."""
    if project and paid_by != project:
        whose = f"project {paid_by!r}" if paid_by else "no project"
        raise OtherProjectError(
            f"{what} belongs to {whose}, and this key acts for project {project!r} alone; use a key of that project, or one "
            "without a project",
            project=project,
        )
