"""What the studies share: their options and Markdown tables."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def study_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with --data, --work (default runs/`name`), --out and --workers."""
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("SIMEVAL_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None)
    parser.add_argument("--work", type=Path, default=Path("runs") / name, help="what is finished is kept here")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser


def markdown_table(headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; columns whose first cell is a number are set flush right."""
    numbers = [bool(rows) and str(cell).replace(".", "").isdigit() for cell in (rows[0] if rows else headers)]
    rule = ["---:" if number else "---" for number in numbers]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (headers, rule, *rows)) + "\n"
