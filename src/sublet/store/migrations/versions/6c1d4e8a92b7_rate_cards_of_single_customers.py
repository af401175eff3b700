"""rate cards of single customers

Revision 6c1d4e8a92b7, after 3fb1c10be7f4. Forward only: to go back, restore the backup from before.
"""

import sqlalchemy as sa
from alembic import op

revision = "6c1d4e8a92b7"
down_revision = "3fb1c10be7f4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("ledger_books", schema=None) as batch_op:
        batch_op.add_column(sa.Column("organization_id", sa.String(length=40), server_default="", nullable=False))
