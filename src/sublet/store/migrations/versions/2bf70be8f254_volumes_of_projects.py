"""volumes of projects

Revision 2bf70be8f254, after b2af9f247466. Forward only: to go back, restore the backup from before.
"""

import sqlalchemy as sa
from alembic import op

revision = "2bf70be8f254"
down_revision = "b2af9f247466"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("volumes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("project", sa.String(length=80), server_default="", nullable=False))
