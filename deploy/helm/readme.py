"""Writes the chart's README.md from values.yaml: a row for each value that a `# --` comment describes.

With --check it writes nothing, and fails if the README is not what it would write.
"""

import re
import sys
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent / "multilora"
_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]+):")

_HEAD = """# The chart `multilora`

Inference servers, adapter stores and Envoy in front; migrations as a hook. How to install it is in
[docs/deploy.md](../../../docs/deploy.md). `make chart-readme` writes this page from values.yaml.

| value | default | what |
|---|---|---|
"""


def rows(text: str) -> list[str]:
    """One table row a described value."""
    values, path, said, found = yaml.safe_load(text), [], "", []
    for line in text.splitlines():
        comment = line.strip().removeprefix("# -- ") if line.strip().startswith("# -- ") else ""
        key = _KEY.match(line)
        if comment:
            said = comment
        elif key:
            depth = len(key["indent"]) // 2
            path = [*path[:depth], key["key"]]
            if said:
                found.append(f"| `{'.'.join(path)}` | `{_shown(values, path)}` | {said} |")
            said = ""
    return found


def _shown(values: object, path: list[str]) -> str:
    for key in path:
        assert isinstance(values, dict)
        values = values[key]
    return yaml.safe_dump(values, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def main() -> int:
    """0: written, or up to date."""
    text = _HEAD + "\n".join(rows((CHART / "values.yaml").read_text())) + "\n"
    readme = CHART / "README.md"
    if "--check" not in sys.argv[1:]:
        readme.write_text(text)
        return 0
    if not readme.is_file() or readme.read_text() != text:
        print("the chart's README.md is stale: run 'make chart-readme'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
