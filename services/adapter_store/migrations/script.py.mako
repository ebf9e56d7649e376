<%!
def own(commands):
    """The commands without Alembic's own remarks."""
    lines = [line for line in commands.splitlines() if "### " not in line]
    return "\n".join(lines).strip() or "pass"
%>\
"""${message}."""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """To this version."""
    ${own(upgrades)}


def downgrade() -> None:
    """To the version before."""
    ${own(downgrades)}
