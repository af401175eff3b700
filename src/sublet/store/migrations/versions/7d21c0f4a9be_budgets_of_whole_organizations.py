"""budgets of whole organizations

Revision 7d21c0f4a9be, after 58f2ecb19031. Forward only: to go back, restore the backup from before.
"""

from alembic import op

revision = "7d21c0f4a9be"
down_revision = "58f2ecb19031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The change of spelling left this word of 0.1 in the rows, and a budget that says it can't be read.
    op.execute("UPDATE ledger_budgets SET scope = 'organization' WHERE scope = 'organisation'")
