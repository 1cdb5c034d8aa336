"""A denoiser that sees the object from the hand: distances at the hand's parts and around it, in the hand's frame."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from simeval.generators.diffusion.coding import GRASP_POINT, CodeSpec, Grasps
from simeval.generators.diffusion.geometry import Shape, basis_points
from simeval.generators.diffusion.network import FEW, NetworkSpec, Sinusoids
from simeval.generators.energy.energy import hand_tensors
from simeval.generators.field import Field, Grid
from simeval.generators.kinematics import place_spheres
from simeval.grasp import JOINT_COUNT

PROBES, PROBE_REACH = 6, 0.12
"""Probes a side of the cube around the grasp point, and how far [m] the cube reaches from it."""
BASIS = 192  # points of the ball around the object
NEAR, TOUCHING, AROUND = 0.03, 0.005, 0.05
"""Distances [m] at which a sphere's clearance saturates, seen coarsely and finely, and a probe's."""
CONDITION = 256  # size of the embedded step and condition
FREQUENCIES = 64


class Scene(NamedTuple):
    """Objects of a batch, among all that were packed."""

    packed: "PackedFields"
    objects: Tensor  # (K,)


class PackedFields(NamedTuple):
    """M objects."""

    field: Field
    radius: Tensor  # (M,) m


class Look(nn.Module):
    """What a hand sees of its object, the same however the two are turned together."""

    point: Tensor
    probe: Tensor
    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        axis = torch.linspace(-PROBE_REACH, PROBE_REACH, PROBES)
        cube = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
        for name, value in {
            "point": torch.tensor(GRASP_POINT), "probe": cube + torch.tensor(GRASP_POINT),
            "basis": torch.tensor(basis_points()[:BASIS]).float(),
        }.items():  # fmt: skip
            self.register_buffer(name, value, persistent=False)
        self.size = 5 * len(hand_tensors().link) + len(cube) + BASIS + 1 + 3 + JOINT_COUNT

    @torch.no_grad()
    def forward(self, hands: Grasps, packed: PackedFields, which: Tensor) -> Tensor:
        """Look from hands (B) at objects `which` (B,): (B, size) numbers of order 1.

        They are, in the hand's frame: clearance of each of the hand's spheres and the way to the object's outside;
        distances at a cube of probes; distances over the object's radius at a ball of points around its centre of mass;
        its size, and where it is; the joints.
        """
        field, back = packed.field, hands.rotation.mT
        spheres = hand_tensors(str(hands.joints.device))
        radius, center = packed.radius[which, None], field.center[which]
        points = [
            place_spheres(hands.joints, spheres.link, spheres.center) @ back + hands.translation[:, None],
            self.probe @ back + hands.translation[:, None], self.basis * radius[..., None] @ back + center[:, None],
        ]  # fmt: skip
        sizes = [part.shape[1] for part in points]
        distance, outward = field.signed_and_gradient(torch.cat(points, dim=1), which, sizes[0])
        near, around, whole = distance.split(sizes, dim=1)
        clearance = near - spheres.radius
        outward = (outward @ hands.rotation) * torch.exp(-clearance.clamp(min=0) / NEAR)[..., None]
        middle = ((center - hands.translation)[:, None] @ hands.rotation)[:, 0] - self.point
        joints = 2 * (hands.joints - spheres.lower) / (spheres.upper - spheres.lower) - 1
        return torch.cat([
            torch.tanh(clearance / NEAR), torch.tanh(clearance / TOUCHING), outward.flatten(1),
            torch.tanh(around / AROUND), whole / radius, (radius / 0.1).log(), middle / AROUND, joints,
        ], dim=1)  # fmt: skip


class Block(nn.Module):
    """Residual block whose normalised input is scaled and shifted by the condition (Perez et al. 2018, FiLM)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.film = nn.Linear(CONDITION, 2 * width)
        for layer in (self.outer, self.film):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """(A or 1, B, width), scaled and shifted as (A, B or 1, 2 · width) says, to (A, B, width)."""
        gain, offset = film.chunk(2, dim=2)
        return x + self.outer(nn.functional.gelu(self.inner(self.norm(x) * (1 + gain) + offset)))


class LocalDenoiser(nn.Module):
    """Predict in the frame of the hand that a grasp is guessed to be, from what that hand sees.

    Nothing depends on how object and hand are turned together: the prediction turns with them (it is equivariant under
    rotation), so a grasp learned on one side of an object is known on all. That asks for a code of joints, two
    directions and a translation that are scaled alike along every axis.
    """

    def __init__(self, spec: NetworkSpec, code: CodeSpec, condition: int) -> None:
        super().__init__()
        self.joint_size = code.joint_size
        self.look = Look()
        self.step = Sinusoids(FREQUENCIES, 1.0)
        self.condition = nn.Sequential(
            nn.Linear(FREQUENCIES + condition, CONDITION), nn.GELU(), nn.Linear(CONDITION, CONDITION)
        )
        self.inner = nn.Linear(self.look.size + code.size, spec.width)
        self.blocks = nn.ModuleList(Block(spec.width) for _ in range(spec.blocks))
        self.norm = nn.LayerNorm(spec.width)
        self.outer = nn.Linear(spec.width, code.size)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def pack(self, shapes: Sequence[Shape], device: str = "cpu") -> PackedFields:
        """Bring objects (M) to a device."""
        grids = [s.values for s in shapes if isinstance(s.values, Grid)]
        radius = torch.tensor([s.radius for s in shapes], dtype=torch.float32, device=device)
        return PackedFields(Field(grids, device), radius)

    def encode(self, packed: PackedFields, objects: Tensor) -> Scene:
        """Choose some objects (K,) of those packed."""
        return Scene(packed, objects)

    def tell(self, step: Tensor, condition: Tensor) -> list[Tensor]:
        """As `Denoiser.tell`: (A, R, 2 · width) by which each block scales and shifts."""
        told = self.condition(torch.cat([self.step(step.float()).expand(len(condition), -1, -1), condition], dim=2))
        return [block.film(told) for block in cast("Sequence[Block]", self.blocks)]

    def forward(self, noised: Tensor, told: Sequence[Tensor], scene: Scene, owner: Tensor, guess: Grasps) -> Tensor:
        """Predict as `Denoiser`, from what the hands of `guess` (B) see."""
        seen = self.look(guess, scene.packed, scene.objects[owner])
        known = torch.cat([seen, self._turned(noised, guess.rotation)], dim=1)
        x = self.inner(known[None] if len(known) >= FEW else known.repeat(len(told[0]), 1, 1))
        for block, film in zip(self.blocks, told, strict=True):
            x = block(x, film)
        return self._turned(self.outer(self.norm(x)), guess.rotation.mT)

    def _turned(self, code: Tensor, rotation: Tensor) -> Tensor:
        """Codes (…, B, D) with their directions and translation as rows times `rotation` (B, 3, 3)."""
        joints, vectors = code[..., : self.joint_size], code[..., self.joint_size :]
        return torch.cat([joints, (vectors.unflatten(-1, (-1, 3)) @ rotation).flatten(-2)], dim=-1)
