"""The six grasp types and how they are measured: `python -m simeval.benchmarks.grasp_types --data DIR`.

Draws the types, labels the released grasps by every measure and compares the labels, and measures how true
`preshape` is to the types asked for. Writes `grasp_types.md`, `.json`, `.png`. Trials are kept, below runs/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from simeval.benchmarks.study import grasps_of, markdown_table, run_suite, study_parser, write_page
from simeval.errors import clear_exit
from simeval.metrics.types import (
    OPPOSES,
    PAPER_THRESHOLD,
    PAPER_TYPES,
    SIDE,
    chance_fidelity,
    confusion,
    kappa,
    paper_references,
    paper_types,
)
from simeval.physics.render import draw_hand
from simeval.records import TrialRecord
from simeval.report.summary import MetricRow, summarise, type_blind
from simeval.taxonomy import GRASP_TYPES, TAXONOMY_VERSION, GraspType

COMMAND = "python -m simeval.benchmarks.grasp_types --data DIR"
NONE = "none"
NAMES = (*GRASP_TYPES, NONE)
EXPECTED_COLOR, THUMB_COLOR = (0.84, 0.37, 0.0, 1.0), (0.0, 0.45, 0.70, 1.0)
OTHER_COLOR = (0.86, 0.85, 0.82, 1.0)
OBSERVED_SEED = 0


def labels(records: Sequence[TrialRecord]) -> dict[str, list[str]]:
    """Labels of each trial's grasp by each measure, `NONE` where it is of no type."""
    grasps = grasps_of(records)
    vectors, references = grasps.to_vectors(), paper_references(grasps)
    found = {
        "paper-28d": paper_types(vectors, references).tolist(),
        "paper-28d, no threshold": paper_types(vectors, references, np.inf).tolist(),
        "commanded": [r.commanded_type for r in records],
        "achieved": [r.achieved_type for r in records],
    }
    return {measure: [kind or NONE for kind in kinds] for measure, kinds in found.items()}


def agreement(found: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Each pair of measures, on the grasps to which both give a type: agreement, chance, kappa, confusion."""
    rows = []
    for a, b in combinations(found, 2):
        if a.startswith("paper") and b.startswith("paper"):
            continue
        pairs = [(x, y) for x, y in zip(found[a], found[b], strict=True) if NONE not in (x, y)]
        if a.startswith("paper"):
            pairs = [(x, y) for x, y in pairs if y in PAPER_TYPES]
        left, right = [x for x, _ in pairs], [y for _, y in pairs]
        blind = np.random.default_rng(OBSERVED_SEED).permutation(np.array(left, dtype=np.str_)).tolist()
        rows.append(
            {
                "measures": [a, b], "n": len(pairs), "kappa": kappa(confusion(left, right, NAMES)),
                "agreement": _share(left, right), "chance": chance_fidelity(left, right),
                "chance_observed": _share(blind, right),
                "confusion": confusion(found[a], found[b], NAMES).tolist(),
            }
        )  # fmt: skip
    return rows


def figure(path: Path) -> None:
    """Draw preshape and posture of the types, links expected in contact in colour."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, len(GRASP_TYPES), figsize=(15, 6.4), layout="constrained")
    for column, kind in zip(axes.T, GRASP_TYPES.values(), strict=True):
        for ax, joints in zip(column, (kind.preshape, kind.posture), strict=True):
            ax.imshow(draw_hand(joints, colors(kind)))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        thumb = "thumb opposed" if kind.thumb_opposed else "thumb not opposed"
        column[0].set_title(f"{kind.name} ({kind.label})\n{thumb}", fontsize=12)
    axes[0, 0].set_ylabel("preshape", fontsize=12)
    axes[1, 0].set_ylabel("reference posture", fontsize=12)
    fig.savefig(path, dpi=80)
    plt.close(fig)


def colors(kind: GraspType) -> dict[str, tuple[float, ...]]:
    """Colour of each link that has a shape: expected in contact, the thumb apart, or not."""
    from simeval.hand import load_hand

    hand = load_hand()
    names = {hand.link_names[shape.link] for shape in hand.primitives}
    held = {n: THUMB_COLOR if n.startswith("th") else EXPECTED_COLOR for n in kind.contact_links}
    return {name: held.get(name, OTHER_COLOR) for name in names}


# The page


def page(
    released: Mapping[str, Mapping[str, int]], rows: Sequence[Mapping[str, Any]], fidelity: Sequence[MetricRow]
) -> str:
    """Return the page as Markdown.

    Args:
        released: measure -> type -> released grasps that it takes for this type.
        rows: what `agreement` gave.
        fidelity: of `preshape`.
    """
    count = sum(released["commanded"].values())
    return "\n".join(
        [
            "# Grasp types\n",
            f"Made by `{COMMAND}`. Taxonomy version {TAXONOMY_VERSION}.\n",
            "![the six types](grasp_types.png)\n",
            "Preshape and reference posture; links expected in contact are orange, the thumb's blue.\n",
            markdown_table(["type", "links expected in contact", "source"],
                   [[k.name, ", ".join(k.contact_links), k.source] for k in GRASP_TYPES.values()]),
            "## Measures\n",
            f"- `paper-28d`: nearest of three released grasps over 28 raw numbers, below {PAPER_THRESHOLD:g}. The "
            "references are the released grasps with the joints nearest the types' postures.",
            "- `commanded`: nearest closing path in the joints' ranges; the wrist has no part in it.",
            f"- `achieved`: by contacts, the thumb's opposition (cosine below {OPPOSES:g}) and the index finger's side "
            f"(above {SIDE:.2f}) when the squeeze is complete; what they leave open, the joints decide.\n",
            f"## The {count} released grasps (real data)\n",
            markdown_table(["measure", *NAMES],
                   [[name, *(str(counts[n]) for n in NAMES)] for name, counts in released.items()]),
            "Agreement on the grasps to which both measures give a type, beside `paper-28d` one of its three. Chance: "
            "the first measure's labels dealt out at random, expected and as drawn with one seed.\n",
            markdown_table(["measures", "n", "agree %", "chance %", "chance, drawn %", "kappa"],
                   [[" / ".join(r["measures"]), str(r["n"]), *(f"{100 * r[k]:.1f}" for k in
                     ("agreement", "chance", "chance_observed")), f"{r['kappa']:.2f}"] for r in rows]),
            *(_confusion(row) for row in rows if not any("no threshold" in m for m in row["measures"])),
            "The matrices without a threshold are in the `.json` beside this page.\n",
            "## `preshape`, by the type asked for\n",
            "Suite `embedded`, `lift`; type-blind: the same grasps, types drawn at random from those asked for. 95 % "
            "intervals, objects as clusters. Commanded fidelity is 100 % by construction: `preshape` closes the hand "
            "along the paths that this measure compares with. The shipped sets hold only grasps that were achieved as "
            "the type asked for.\n",
            _fidelity(fidelity),
        ]
    )  # fmt: skip


def _fidelity(rows: Sequence[MetricRow]) -> str:
    lines: dict[tuple[str, str], dict[str, MetricRow]] = {}
    for row in rows:
        lines.setdefault((row.generator, row.group), {})[row.metric] = row
    return markdown_table(
        ["grasps", "type", "commanded %", "achieved %", "n"],
        [
            [*key, *(_percent(found[f"type_fidelity_{m}"]) for m in ("commanded", "achieved")),
             str(found["type_fidelity_achieved"].n)]
            for key, found in lines.items()
        ],
    )  # fmt: skip


def _percent(row: MetricRow) -> str:
    return f"{100 * row.value:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _confusion(row: Mapping[str, Any]) -> str:
    a, b = row["measures"]
    body = [[name, *map(str, counts)] for name, counts in zip(NAMES, row["confusion"], strict=True) if any(counts)]
    return f"Rows {a}, columns {b}:\n\n" + markdown_table(["", *NAMES], body)


def _share(a: Sequence[str], b: Sequence[str]) -> float:
    return float(np.mean([x == y for x, y in zip(a, b, strict=True)])) if a else float("nan")


def main() -> None:
    """Simulate what is missing, then write the page, its numbers and the figure."""
    options = study_parser(__doc__).parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    figure(options.out / "grasp_types.png")
    found = labels(run_suite("replay", "released", options, protocol="lift").records)
    rows = agreement(found)
    preshape = run_suite("preshape", "embedded", options, protocol="lift")
    fidelity = [
        row
        for grouped in (None, "type")
        for row in (*summarise([preshape], grouped), *type_blind([preshape], grouped, OBSERVED_SEED))
        if row.metric.startswith("type_fidelity")
    ]
    counts = {name: {n: kinds.count(n) for n in NAMES} for name, kinds in found.items()}
    note = {
        "command": COMMAND, "data_kind": "real", "taxonomy": TAXONOMY_VERSION, "types": list(NAMES),
        "counts": counts,
        "agreement": rows, "preshape": [asdict(row) for row in fidelity],
    }  # fmt: skip
    write_page(options.out, "grasp_types", note, page(counts, rows, fidelity))


if __name__ == "__main__":
    with clear_exit():
        main()
