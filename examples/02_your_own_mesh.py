"""Grasp an object of your own: a mesh file, in whatever unit it has.

A convex mesh is taken as it is. Any other is split into convex pieces by CoACD (`pip install 'simeval[mesh]'`), which
can take minutes, once.
"""

from pathlib import Path

import trimesh

from simeval.mesh_suite import MeshObject
from simeval.physics.settings import Physics
from simeval.run import RunSpec, execute_run
from simeval.store import read_run


def main() -> None:
    """Write a cylinder in millimetres, as a CAD program would, and grasp it twice."""
    file = Path("tin.stl")
    trimesh.creation.cylinder(radius=33, height=90).export(file)
    tin = MeshObject(file, scale=0.001, up="z")  # metres per unit of the mesh

    model = tin.load()
    size = 1e3 * (model.surface.vertices.max(axis=0) - model.surface.vertices.min(axis=0))
    print(f"{model.code}: {size.round()} mm, {1e3 * model.mass(density=500):.0f} g if it is 500 kg/m³")

    physics = Physics(mass_kg=0.3)  # weighed
    spec = RunSpec("preshape", tin.suite(count=2, types=["cylindrical"]), physics=physics, mesh=tin, workers=0)
    for record in read_run(execute_run(spec)).records:
        print(f"{record.protocol:14} grasp {record.index}: {record.outcome}, slipped {1e3 * record.slip_m:.1f} mm")


if __name__ == "__main__":
    main()
