"""Writes the documents that are made from the code: ``docs/api.md`` from the route declarations,
``docs/configuration.md`` from the options and the comments beside them, and the tables of figures in README.md and
``docs/benchmarks.md`` from what was measured.

    python tools/documents.py --update
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import figures  # noqa: E402
from nova_fast import config  # noqa: E402
from nova_fast.api.app import FACES, load_face, port_of  # noqa: E402
from nova_fast.api.framework.route import FIRST_VERSION, LAST_VERSION, Face, Route  # noqa: E402
from nova_fast.api.framework.versions import show_version  # noqa: E402
from nova_fast.config import ApiConfig  # noqa: E402

API_HEAD = """# What the API answers

Made from the route declarations by `tools/documents.py`; a test holds it to them. A route that is not here answers 404.
"Who" is the role a token must have: on the project that owns the object, or admin; objects of another project are 404.
"""


CONFIGURATION_HEAD = """# Configuration

One TOML file, all of it optional: `nova-fast --config FILE`, or `$NOVA_FAST_CONFIG`, or `nova-fast.toml` in the
present folder. An option that does not exist, or a value of the wrong type, is refused at start with its name. Made
from `nova_fast/config.py` by `tools/documents.py`; a test holds it to it.
"""

_SECTION = re.compile(r'class (\w+)\(_Section, frozen=True\):\n    """(.+?)"""\n\n((?:    \w.*\n)+)')
_OPTION = re.compile(r"    (\w+): (.+?) = (.+?)(?:  # (.+))?$")


def configuration() -> str:
    """``docs/configuration.md``: each section with its options, defaults and meanings."""
    parts = [CONFIGURATION_HEAD]
    source = (ROOT / "nova_fast" / "config.py").read_text()
    for name, sentence, body in _SECTION.findall(source):
        section = "top level" if name == "Config" else f"[{name.removesuffix('Config').lower()}]"
        parts += [f"## {section}", "", sentence, "", "| option | default | meaning |", "|---|---|---|"]
        for line in body.splitlines():
            found = _OPTION.match(line)
            assert found is not None, f"an option of {name} is written in a way this does not read: {line}"
            option, _type, default, meaning = found.groups()
            if default.isidentifier() and default.isupper():  # a constant of that file
                default = repr(getattr(config, default))
            if not default.endswith("Config()"):
                parts.append(f"| `{option}` | `{default}` | {meaning or option.replace('_', ' ')} |")
        parts.append("")
    return "\n".join(parts)


def api() -> str:
    """``docs/api.md``: every route of every face."""
    parts = [API_HEAD]
    for name in FACES:
        parts.append(_face(load_face(name), port_of(ApiConfig(), name)))
    return "\n".join(parts)


def _face(face: Face, port: int) -> str:
    versions = ""
    if face.microversions is not None:
        low, high = show_version(face.microversions.minimum), show_version(face.microversions.maximum)
        versions = f", microversions {low} to {high}"
    rows = sorted(face.routes, key=lambda route: (route.path, route.method, route.action or "", route.since))
    lines = [f"## {face.name.capitalize()} (port {port}{versions})", "", "| method | path | who | status | versions |"]
    lines += ["|---|---|---|---|---|", *(_row(route) for route in rows), ""]
    return "\n".join(lines)


def _row(route: Route) -> str:
    path = f"`{route.path}`" + (f" · `{route.action}`" if route.action else "")
    ok = (
        route.ok
        if isinstance(route.ok, int)
        else ", ".join(f"{status} from {since}" for since, status in route.ok.items())
    )
    return f"| {route.method} | {path} | {route.policy} | {ok} | {_range(route)} |"


def _range(route: Route) -> str:
    if route.since == FIRST_VERSION and route.until == LAST_VERSION:
        return "all"
    since = show_version(route.since) if route.since != FIRST_VERSION else ""
    until = show_version(route.until) if route.until != LAST_VERSION else ""
    return f"{since} to {until}".strip() if until else f"from {since}"


#: file → what makes it.
DOCUMENTS = {
    ROOT / "docs" / "api.md": api,
    ROOT / "docs" / "configuration.md": configuration,
    figures.README: partial(figures.made, figures.README),
    figures.BENCHMARKS: partial(figures.made, figures.BENCHMARKS),
}


def main() -> int:
    for path, make in DOCUMENTS.items():
        if "--update" in sys.argv:
            path.write_text(make())
            print(f"wrote {path.relative_to(ROOT)}")
        else:
            print(make())
    return 0


if __name__ == "__main__":
    sys.exit(main())
