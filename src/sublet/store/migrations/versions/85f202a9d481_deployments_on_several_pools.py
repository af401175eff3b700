"""deployments on several pools

Revision 85f202a9d481, after f51f49233aad. Forward only: to go back, restore the backup from before.
"""

import sqlalchemy as sa
from alembic import op

revision = "85f202a9d481"
down_revision = "f51f49233aad"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("pool_ids", sa.Text(), nullable=True))
