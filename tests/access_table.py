"""The access table of docs/access.md, generated from both services' rules.

`python -m tests.access_table` writes it there; a test holds the page to the rules, and another one holds the
servers to the page.
"""

from collections.abc import Mapping
from pathlib import Path

from services.adapter_store.servicer.access_rules import RULES as STORE_RULES
from services.common.access_rule import Rule, Rules, Scope
from services.common.caller import Role
from services.inference.access_rules import RULES as INFERENCE_RULES

PAGE = Path(__file__).parents[1] / "docs" / "access.md"
BEGIN, END = "<!-- table: python -m tests.access_table -->\n", "<!-- end of table -->\n"
SERVICES: Mapping[str, Rules] = {"AdapterStoreService": STORE_RULES, "InferenceService": INFERENCE_RULES}
CALLERS = ("no token", "expired", "revoked", "other tenant", "reader", "publisher", "admin", "operator")
ROLES = {"reader": Role.READER, "publisher": Role.PUBLISHER}
HEADER = ("RPC", "role", "in", *CALLERS)


def cell(rule: Rule, caller: str) -> str:
    """What `caller` gets: yes, or the code of the refusal. Other tenants and operators are ADMINs."""
    if caller in ("no token", "expired", "revoked"):
        return "UNAUTHENTICATED"
    if rule.scope is Scope.OPERATORS and caller != "operator":
        return "PERMISSION_DENIED"
    if rule.scope is Scope.TENANT and caller == "other tenant":
        return "NOT_FOUND"
    return "yes" if ROLES.get(caller, Role.ADMIN).includes(rule.role) else "PERMISSION_DENIED"


def place(rule: Rule) -> str:
    """Where the token must be good."""
    if rule.scope is not Scope.TENANT:
        return rule.scope
    return f"the tenant of `{rule.field}`"


def render() -> str:
    """Both tables, in Markdown."""
    parts = []
    for service, rules in SERVICES.items():
        rows = [(f"`{name}`", r.role, place(r), *(cell(r, c) for c in CALLERS)) for name, r in rules.items()]
        lines = [HEADER, tuple("---" for _ in HEADER), *rows]
        parts.append(f"**{service}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def read_page() -> dict[tuple[str, str, str], str]:
    """The page's cells, by service, RPC and caller."""
    cells, service = {}, ""
    for line in table_of(PAGE.read_text()).splitlines():
        if line.startswith("**"):
            service = line.strip("*")
        elif line.startswith("| `"):
            values = [value.strip() for value in line.strip("|\n").split(" | ")]
            rpc = values[0].strip("` ")
            cells |= {
                (service, rpc, caller): value for caller, value in zip(CALLERS, values[3:], strict=True)
            }
    return cells


def table_of(page: str) -> str:
    """What lies between the page's two marks."""
    return page.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Puts the table into the page."""
    page = PAGE.read_text()
    PAGE.write_text(page.replace(BEGIN + table_of(page) + END, BEGIN + render() + END))


if __name__ == "__main__":
    main()
