"""The fenced blocks of the README and of docs/, and how their commands are run."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block: "```language file" and what follows; `file` is empty where the reader isn't to write one."""

    page: Path
    line: int
    language: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"


def blocks(page: Path) -> list[Block]:
    """Blocks of a page in its order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, _, file = match[1].strip().partition(" ")
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, language, file.strip(), match[2]))
    return found


def commands(text: str) -> list[str]:
    """Commands of a shell block without comments, `&&` and continued lines taken apart; quotes stay as they are."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            kept = line if "#" not in line else line[: line.rindex(" #")]
            found += [" ".join(part.split()) for part in kept.split("&&")]
    return found
