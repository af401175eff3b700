"""${message}

Revision ${up_revision}, after ${down_revision or 'nothing' | comma,n}. Forward only: to go back, restore the backup from before.
"""

# ruff: noqa: E501, PLR0915  generated: one statement a table

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
