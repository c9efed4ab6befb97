"""Writes docs/configuration.md: every setting with its unit, default, what is allowed, and the comment that stands behind it in
the source, so that nothing is said twice and nothing can be forgotten."""

from __future__ import annotations

import ast
import inspect
import io
import json
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from cordee.config.describe import Setting, allowed, settings
from cordee.config.reload import is_live
from cordee.config.sections.attempts import ModelSettings
from cordee.config.sections.base import Section
from cordee.config.sections.outside import Cloud, Peer
from cordee.config.sections.routing import PoolSettings, ReplicaSettings
from cordee.config.sections.services import Provider
from cordee.config.tree import Config

HEAD = """# Every setting

Made from the source by `scripts/settings-doc`. In a file (`cordee.toml` in the data directory or where `cordee up` is run, or
`--config FILE`) a setting stands in its table: `[queue]`, then `calls_max = 100`. In the environment it is
`CORDEE_QUEUE_CALLS_MAX=100`, lists and tables as JSON. Later ones win: defaults, the file, the environment, the command line.

`cordee config show` prints what holds and where it comes from; `cordee config check` says what is wrong, with the line. An unknown
name or a value that is not allowed is never ignored: nothing starts, and at a reload the old configuration goes on.

What a reload takes up is marked *live*. The rest waits for a restart, and the reload names it.
"""
ENTRIES: tuple[tuple[str, type[Section], str], ...] = (
    ('[models."NAME"]', ModelSettings, "models"),
    ('[pools."MODEL"]', PoolSettings, "pools"),
    ("[replicas.NAME]", ReplicaSettings, "replicas"),
    ("[[replica]]", Peer, "replica"),
    ("[services.accounts.providers.NAME]", Provider, "services.accounts.providers"),
    ("[[cloud]]", Cloud, "cloud"),
)  # tables that are written once for each of something, and the setting that holds them


def main(out: Path) -> None:
    out.write_text("\n".join(page()) + "\n")


def page() -> Iterator[str]:
    """The lines of the document."""
    yield HEAD
    of_many = {key for _, _, key in ENTRIES}
    known = [setting for setting in settings().values() if setting.key not in of_many]
    yield from table("At the top", Config, [setting for setting in known if not setting.section])
    for name, kind in kinds(Config, ""):
        yield from table(f"`[{name}]`", kind, [setting for setting in known if setting.section == name])
    for title, kind, key in ENTRIES:
        yield from table(f"`{title}`", kind, list(entries(kind, key)))


def kinds(kind: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    """Every table with a name of its own, in the order of the tree."""
    hints = get_type_hints(kind)
    for name in kind.__struct_fields__:
        if isinstance(hints[name], type) and issubclass(hints[name], Section):
            yield prefix + name, hints[name]
            yield from kinds(hints[name], f"{prefix}{name}.")


def entries(kind: type[Section], key: str) -> Iterator[Setting]:
    """The settings of one entry; a table inside it is one line that says where its names are explained."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        yield Setting(f"{key}.{field.name}", hint, default_of(field), allowed(hint))


def default_of(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def table(title: str, kind: type[Section], rows: list[Setting]) -> Iterator[str]:
    if not rows:
        return
    said = comments(kind)
    yield f"## {title}\n"
    if kind is not Config:
        yield " ".join((kind.__doc__ or "").split()) + "\n"
    yield "| setting | default | allowed | meaning | |"
    yield "|---|---|---|---|---|"
    for setting in rows:
        name = f"`{setting.name}`" + (f" ({setting.unit})" if setting.unit else "")
        taken = "*live*" if is_live(setting.key) or is_live(setting.section) else ""
        cells = (name, written(setting.default), setting.allowed, said.get(setting.name, ""), taken)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def written(default: object) -> str:
    """A default as a file would have it."""
    if default is msgspec.NODEFAULT:
        return "needed"
    if isinstance(default, Section):
        return "as in its table"
    plain: Any = msgspec.to_builtins(default)
    return f"`{json.dumps(plain, ensure_ascii=False)}`"


def comments(kind: type[Section]) -> Mapping[str, str]:
    """What the comment at each field of the class says."""
    source = inspect.getsource(kind)
    notes: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            notes[token.start[0]] = token.string.lstrip("# ")
    [body] = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(notes[line] for line in lines if line in notes)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
