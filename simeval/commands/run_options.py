"""The options of `simeval run`."""

from pathlib import Path
from typing import Annotated

from typer import Option

WHAT, PHYSICS, MESH, HOW = "What to run", "Physics", "Your own object", "How to run it"

Generator = Annotated[
    str, Option("--generator", "-g", help="Its name; `simeval generators` lists them.", rich_help_panel=WHAT)
]
SuiteName = Annotated[
    str | None, Option("--suite", "-s", help="Name or .toml file; default embedded.", rich_help_panel=WHAT)
]
Objects = Annotated[
    int | None, Option(min=1, help="Only the suite's first N objects.", metavar="N", rich_help_panel=WHAT)
]
Grasps = Annotated[
    int | None,
    Option(
        min=1,
        max=1_000_000,
        help="At most N grasps a request; so many of a --mesh, 10 by default.",
        metavar="N",
        rich_help_panel=WHAT,
    ),
]
GraspTypes = Annotated[
    list[str] | None,
    Option("--type", help="Only grasps of this type; repeatable.", metavar="T", rich_help_panel=WHAT),
]
Settings = Annotated[
    list[str] | None,
    Option("--set", help="Setting of the generator; repeatable.", metavar="KEY=VALUE", rich_help_panel=WHAT),
]
Protocols = Annotated[
    list[str] | None,
    Option("--protocol", help="Repeatable; default: the suite's.", metavar="NAME", rich_help_panel=WHAT),
]
Refine = Annotated[
    str | None,
    Option(help="Make its grasps better: energy, or energy,steps=50.", metavar="REFINER", rich_help_panel=WHAT),
]
Noise = Annotated[
    str | None,
    Option(help="Noise on the wrist's pose, for example 5mm,5deg.", metavar="NOISE", rich_help_panel=WHAT),
]
Seed = Annotated[int | None, Option(min=0, max=2**31 - 1, help="Another seed than the suite's.", rich_help_panel=WHAT)]
NoReferences = Annotated[
    bool, Option("--no-references", help="Leave out the suite's ceiling and floors.", rich_help_panel=WHAT)
]
Friction = Annotated[float | None, Option(help="Coulomb coefficient between hand and object.", rich_help_panel=PHYSICS)]
Density = Annotated[float | None, Option(help="Object density, kg/m³.", rich_help_panel=PHYSICS)]
Mass = Annotated[float | None, Option(help="Object mass, kg, in place of a density.", rich_help_panel=PHYSICS)]
PhysicsItems = Annotated[
    list[str] | None,
    Option("--physics", help="Any physical setting; repeatable.", metavar="KEY=VALUE", rich_help_panel=PHYSICS),
]
MeshFile = Annotated[
    Path | None,
    Option(help="In place of a suite: .obj .stl .ply .off .glb .gltf.", metavar="FILE", rich_help_panel=MESH),
]
MeshScale = Annotated[
    float | None, Option(help="Metres per unit of the mesh, 0.001 for mm; default 1.", rich_help_panel=MESH)
]
MeshUp = Annotated[
    str | None,
    Option(help="Which axis is up: x, y, z, -x, -y or -z; default z.", metavar="AXIS", rich_help_panel=MESH),
]
Decompose = Annotated[
    str | None,
    Option(help="Into convex pieces: auto, coacd or hull; default auto.", metavar="HOW", rich_help_panel=MESH),
]
Timeout = Annotated[
    float, Option(min=0.1, help="Seconds a trial may take; what a generator takes isn't limited.", rich_help_panel=HOW)
]
Out = Annotated[
    Path | None,
    Option(help="Folder for the run folders; default runs/<suite>.", metavar="DIR", rich_help_panel=HOW),
]
Fresh = Annotated[bool, Option("--fresh", help="Discard what this command has stored before.", rich_help_panel=HOW)]
