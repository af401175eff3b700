"""budgets tell through subscriptions

Revision 1e0246f2e9b7, after 7cdd21d79e66. Forward only: to go back, restore the backup from before.
"""

import sqlalchemy as sa
from alembic import op

from sublet.values.ids import derived_id

revision = "1e0246f2e9b7"
down_revision = "7cdd21d79e66"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _subscribe()
    with op.batch_alter_table("ledger_deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ledger_deliveries_state_next_at"))

    op.drop_table("ledger_deliveries")
    with op.batch_alter_table("ledger_budgets", schema=None) as batch_op:
        batch_op.drop_column("webhook_secret")
        batch_op.drop_column("email")
        batch_op.drop_column("webhook_url")


def _subscribe() -> None:
    """Whoever a live budget told goes on being told of it. The secret is sealed at the next start, with the key that no
    migration has."""
    connection = op.get_bind()
    budgets = connection.execute(
        sa.text(
            "SELECT b.id, b.organization_id, b.webhook_url, b.webhook_secret, b.email, b.created_at, o.kind "
            "FROM ledger_budgets b LEFT JOIN organizations o ON o.id = b.organization_id "
            "WHERE b.ended_at IS NULL AND (b.webhook_url != '' OR b.email != '')"
        )
    ).all()
    rows = [
        {
            "id": derived_id("sub", budget.id, channel),
            "organization_id": budget.organization_id,
            "name": f"budget {budget.id}",
            "channel": channel,
            "address": address,
            "subject": budget.id,
            "secret": secret,
            "internal": budget.kind in ("operator", "internal"),
            "created_at": budget.created_at,
        }
        for budget in budgets
        for channel, address, secret in (
            ("webhook", budget.webhook_url, f"plain:{budget.webhook_secret}"),
            ("email", budget.email, None),
        )
        if address
    ]
    if rows:
        connection.execute(
            sa.text(
                "INSERT INTO subscriptions (id, organization_id, name, channel, address, format, kinds, subject, secret, enabled, "
                "internal, from_position, created_by, created_at, failures) VALUES (:id, :organization_id, :name, :channel, "
                ":address, 'standard', '[\"budget.*\"]', :subject, :secret, :enabled, :internal, 0, 'upgrade', :created_at, 0)"
            ).bindparams(sa.bindparam("enabled", True, sa.Boolean), sa.bindparam("internal", type_=sa.Boolean)),
            rows,
        )
