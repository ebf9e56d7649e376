"""Prints what some extras of pyproject.toml require: an image's dependencies are a layer of their own."""

import re
import sys
import tomllib
from pathlib import Path

_SELF = re.compile(r"multilora\[(?P<extras>[^]]+)\]")


def requirements(project: dict, extras: list[str]) -> list[str]:
    """The project's own requirements and those of `extras`, which may name further extras."""
    found = list(project["dependencies"])
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            inner = _SELF.fullmatch(requirement)
            if inner is None:
                found.append(requirement)
            else:
                found += requirements({**project, "dependencies": []}, inner["extras"].split(","))
    return sorted(set(found))


if __name__ == "__main__":
    print("\n".join(requirements(tomllib.loads(Path("pyproject.toml").read_text())["project"], sys.argv[1:])))
