"""Split a mesh into convex pieces with CoACD; `simeval.objects.mesh` runs this in a process of its own."""

import sys

import numpy as np


def main(source: str, target: str) -> None:
    """Read vertices and faces from one .npz file, write the pieces' points to another."""
    import coacd
    import trimesh

    from simeval.objects.mesh import COACD

    coacd.set_log_level("error")
    with np.load(source) as data:
        mesh = trimesh.Trimesh(data["vertices"], data["faces"], process=True)
    parts = coacd.run_coacd(coacd.Mesh(mesh.vertices, mesh.faces), **COACD)
    points = [np.asarray(vertices, dtype=np.float64) for vertices, _ in parts]
    starts = np.cumsum([len(p) for p in points])[:-1].astype(np.int64)
    np.savez(target, points=np.concatenate(points), starts=starts)


if __name__ == "__main__":
    main(*sys.argv[1:])
