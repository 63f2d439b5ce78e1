"""The house: which rooms the code has, what each may import, and the picture of it.

A room is a sub-package of `pipeline` or `model`; the modules beside them are what all rooms of a
package share. The last line of a room's docstring, "May import: ...", is the one statement of its
imports: a test checks it against what the modules import, and the picture is drawn from it.

    python -m workflow.house            print the picture and the table
    python -m workflow.house --modules  print each room's modules and what they import
    python -m workflow.house --write    redraw both in the documents that show them
"""

import argparse
import ast
import re
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "model")
DOCUMENTS = ("docs/architecture.md", "CONTRIBUTING.md")
MAY_IMPORT = "May import:"
LINE = 100


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name, its docstring, and the modules of this house it imports."""

    name: str
    file: Path
    docstring: str
    imports: frozenset[str]
    is_door: bool

    @property
    def room(self) -> str:
        """The sub-package that it lies in, or its package where it lies beside the rooms."""
        parts = self.name.split(".")
        deep = len(parts) > 2 or self.file.name == "__init__.py"
        return ".".join(parts[:2]) if deep else parts[0]


@dataclass(frozen=True)
class Room:
    """A sub-package, or the shared modules of a package."""

    name: str
    modules: tuple[Module, ...]

    @cached_property
    def docstring(self) -> str:
        own = [module for module in self.modules if module.name == self.name]
        return own[0].docstring if own else ""

    @property
    def summary(self) -> str:
        """What is in it: the first paragraph of its docstring."""
        return " ".join(self.docstring.split("\n\n")[0].split())

    @property
    def start(self) -> str:
        """Where its docstring says to start reading, or nothing."""
        found = re.search(r"Start\s+reading\s+at\s+`([^`]+)`", self.docstring)
        return found[1] if found else ""

    @property
    def may_import(self) -> frozenset[str]:
        """The rooms that its docstring names after "May import:"."""
        _, found, stated = self.docstring.partition(MAY_IMPORT)
        if not found:
            raise ValueError(f"{self.name}: its docstring has no line '{MAY_IMPORT} ...'")
        return frozenset(re.findall(r"`([^`]+)`", stated))

    def imports(self, house: "House") -> dict[str, list[str]]:
        """The other rooms that its modules import, and by which lines."""
        used: dict[str, list[str]] = {}
        for module in self.modules:
            for name in sorted(module.imports):
                room = house.room_of(name)
                if room != self.name:
                    used.setdefault(room, []).append(f"{module.name} → {name}")
        return used


class House:
    """All rooms of the packages under ``root``.

    Modules that are ways in belong to no room: each package's ``__main__``, and the modules that
    only give a public name to what lies in a room.
    """

    def __init__(self, root: Path = ROOT) -> None:
        files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
        self.modules = {_name(root, file): file for file in files}
        read = [_read(name, file, set(self.modules)) for name, file in self.modules.items()]
        self.doors = tuple(module for module in read if module.is_door)
        inside = [module for module in read if not module.is_door]
        self.rooms = {
            room: Room(room, tuple(module for module in inside if module.room == room))
            for room in sorted({module.room for module in inside}, key=_order)
        }

    def room_of(self, module: str) -> str:
        """The room that a module belongs to; a door is its own."""
        if module in {door.name for door in self.doors}:
            return module
        return next(r.name for r in self.rooms.values() if module in {m.name for m in r.modules})

    def modules_of(self, room: str) -> list[Module]:
        return list(self.rooms[room].modules)

    def layers(self) -> list[list[str]]:
        """The rooms from the bottom up, each above all that it may import.

        Raises
        ------
        ValueError
            if rooms import each other in a cycle.
        """
        left, layers = dict(self.rooms), []
        while left:
            free = [name for name in left if not self.rooms[name].may_import & left.keys()]
            if not free:
                raise ValueError(f"these rooms import each other in a cycle: {', '.join(left)}")
            layers.append(free)
            left = {name: room for name, room in left.items() if name not in free}
        return layers

    def mermaid(self) -> str:
        """The picture: an arrow from a room to each that it imports and that no other leads to."""
        lines = ["```mermaid", "flowchart TD"]
        for package in PACKAGES[::-1]:
            lines.append(f"  subgraph {package}")
            for name in self.rooms:
                if name.startswith(f"{package}."):
                    lines.append(f'    {_node(name)}["{name.partition(".")[2]}"]')
            lines += [f'    {package}_shared(["settings and what else all rooms share"])', "  end"]
        for name in self.rooms:
            lines += [f"  {_node(name)} --> {_node(target)}" for target in self._direct(name)]
        return "\n".join([*lines, "```"])

    def _direct(self, name: str) -> list[str]:
        """What a room imports, without packages' shared modules and what is reached anyway."""
        rooms = [target for target in self.rooms if target in self.rooms[name].may_import]
        rooms = [target for target in rooms if "." in target]
        below = {far for target in rooms for far in self._reached(target)}
        return [target for target in rooms if target not in below]

    def _reached(self, name: str) -> set[str]:
        direct = {target for target in self.rooms[name].may_import if "." in target}
        return direct.union(*(self._reached(target) for target in direct))

    def table(self) -> str:
        """What is in each room, where to start reading, and what it imports, in Markdown."""
        lines = ["| room | what is in it | start reading at | imports |", "|---|---|---|---|"]
        for name, room in self.rooms.items():
            targets = [f"`{target}`" for target in self.rooms if target in room.may_import]
            start = f"`{room.start}`" if room.start else ""
            cells = (f"`{name}`", room.summary, start, ", ".join(targets) or "nothing")
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def listing(self) -> str:
        """Each room's modules with their first lines, and what they import of other rooms."""
        lines = []
        for name, room in self.rooms.items():
            lines.append(f"{name}: {room.summary}")
            for module in room.modules:
                if module.name != name:
                    count = len(module.file.read_text().splitlines())
                    summary = " ".join(module.docstring.split("\n\n")[0].split())
                    line = f"{module.name.rpartition('.')[2]} ({count} lines): {summary}"
                    lines.append("  " + textwrap.shorten(line, LINE - 2, placeholder=" …"))
            for target, by in room.imports(self).items():
                used = sorted({line.rpartition(".")[2] for line in by})
                lines.append(f"  → {target}: {', '.join(used)}")
        return "\n".join(lines)


def _node(room: str) -> str:
    return room.replace(".", "_")


def _order(room: str) -> tuple[int, str]:
    return PACKAGES.index(room.split(".")[0]), room


def _name(root: Path, file: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> set[str]:
    """Names of the modules that a file imports, at its top or inside its functions.

    Of ``from a import b``, where ``b`` may be a module or a name in one, both ``a`` and ``a.b``.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _read(name: str, file: Path, known: set[str]) -> Module:
    tree = ast.parse(file.read_text())
    imports = imported(tree) & known - {name}
    # Of `from room import module` the module counts, not the room's own file.
    imports -= {other.rpartition(".")[0] for other in imports if "." in other}
    statements = tree.body[1:] if ast.get_docstring(tree) else tree.body
    only_names = bool(statements) and all(isinstance(node, ast.ImportFrom) for node in statements)
    door = file.name == "__main__.py" or (only_names and file.name != "__init__.py")
    return Module(name, file, ast.get_docstring(tree) or "", frozenset(imports), door)


def write(root: Path = ROOT) -> list[Path]:
    """Redraw the picture and the table in the documents; return those that changed."""
    changed = []
    for name in DOCUMENTS:
        document = root / name
        text = document.read_text()
        renewed = with_house(text, House(root))
        if renewed != text:
            document.write_text(renewed)
            changed.append(document)
    return changed


def with_house(text: str, house: House) -> str:
    """A document with what stands between its marks ``<!-- house: PART -->`` redrawn."""
    for part, drawn in (("picture", house.mermaid()), ("table", house.table())):
        before, begun, rest = text.partition(f"<!-- house: {part} -->\n")
        _, ended, after = rest.partition(f"<!-- end of {part} -->")
        if begun and ended:
            text = f"{before}{begun}{drawn}\n{ended}{after}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflow.house", description=__doc__)
    parser.add_argument("--modules", action="store_true", help="list the modules of each room")
    parser.add_argument("--write", action="store_true", help="redraw the documents")
    arguments = parser.parse_args()
    if arguments.write:
        print(*(f"wrote {document}" for document in write()), sep="\n")
    elif arguments.modules:
        print(House().listing())
    else:
        print(House().mermaid(), House().table(), sep="\n\n")


if __name__ == "__main__":
    main()
