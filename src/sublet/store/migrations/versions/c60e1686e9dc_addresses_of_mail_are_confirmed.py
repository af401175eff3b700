"""addresses of mail are confirmed

Revision c60e1686e9dc, after b761fae643e3. Forward only: to go back, restore the backup from before.
"""

import sqlalchemy as sa
from alembic import op

revision = "c60e1686e9dc"
down_revision = "b761fae643e3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("confirmed_at", sa.BigInteger(), nullable=True))
    # Those of before were made without being asked, and tell since then: they go on.
    op.execute("UPDATE subscriptions SET confirmed_at = created_at")
