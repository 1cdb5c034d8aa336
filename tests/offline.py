"""Install a package as its users would, without a network."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shutil import copy, copytree

OPTIONS = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""pip's options as environment variables; 0 is how pip spells "no isolation" there."""


def can_build() -> bool:
    """Whether pip can build here what it would build in an environment of its own; setuptools 70.1 brought wheels."""
    try:
        newest = tuple(map(int, version("setuptools").split(".")[:2])) >= (70, 1)
    except PackageNotFoundError:
        return False
    return bool(find_spec("pip") and (newest or find_spec("wheel")))


def install(package: Path, target: Path, scratch: Path) -> None:
    """Install a package's modules and metadata into a folder: by pip, or by hand where that can't build."""
    if not can_build():
        install_by_hand(package, target)
        return
    source = copytree(package, scratch / "source")  # a build leaves files behind
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr


def environment() -> dict[str, str]:
    """This process's environment, in which pip uses no network."""
    return os.environ | OPTIONS


def install_by_hand(package: Path, target: Path) -> None:
    """Write what pip would have, of a package that has only modules beside its pyproject.toml."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module in package.glob("*.py"):
        copy(module, target)
