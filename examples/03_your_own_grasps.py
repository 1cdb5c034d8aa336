"""Do grasps that you have already hold? Bring them as DexGraspNet's files, with their objects, and replay them.

The folder has DexGraspNet's layout: `meshdata/<code>/coacd/decomposed.obj`, one group for each convex piece, and
`dataset/<code>.npy`. Here both are written first, from embedded grasps; with DexGraspNet's own data, or anything that
writes its files, begin at `replay`.
"""

from pathlib import Path

from simeval.bank import load_bank
from simeval.objects import ObjectModel, load_embedded, write_grasps
from simeval.run import RunSpec, execute_run
from simeval.store import read_run
from simeval.suites import Request, Suite

CODE = "sem-Bottle-mine"


def write_object(model: ObjectModel, folder: Path) -> None:
    """Write convex pieces (vertices in metres at scale 1) as groups of one OBJ file."""
    lines, first = [], 1
    for number, piece in enumerate(model.pieces):
        lines += [f"o piece_{number}", *(f"v {x} {y} {z}" for x, y, z in piece.vertices)]
        lines += [f"f {a} {b} {c}" for a, b, c in piece.faces + first]
        first += len(piece.vertices)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decomposed.obj").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write a folder, then try what is in it."""
    data, bank = Path("mydata"), load_bank("embedded")
    source = bank.codes[0]
    write_object(load_embedded(source), data / "meshdata" / CODE / "coacd")
    (data / "dataset").mkdir(exist_ok=True)
    write_grasps(data / "dataset" / f"{CODE}.npy", 1.0, bank.for_object(source, 1.0)[:3])

    replay(data)


def replay(data: Path) -> None:
    """Try the grasps of `dataset/`, all of one object at one scale."""
    asked = [Request(object=CODE, scale=1.0, count=3)]
    suite = Suite(name="mine", version=1, description="My grasps", data_kind="real", bank="released", requests=asked)
    run = read_run(execute_run(RunSpec("replay", suite, data=data, workers=0)))
    for record in run.records:
        print(f"{record.protocol:14} grasp {record.index}: {record.outcome}, {record.penetration_mm:.2f} mm deep")


if __name__ == "__main__":
    main()
