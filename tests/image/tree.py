"""A Debian tree that commands run in by chroot, as root or as the image's user, with the image's environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.image.dockerfile import Step

#: The official images' way to keep nothing of what apt has fetched.
APT_KEEPS_NOTHING = """DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
#: What python:3.13-slim has and a minimal Debian has not. Its Python is of its own build, this one is
#: Debian's, of the same version.
PYTHON = ("ca-certificates", "python3", "python3-venv")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Tree:
    """One tree, and what the steps so far have said of user, directory and environment."""

    def __init__(self, root: Path, shared: Sequence[Path] = ()) -> None:
        """Args: shared: paths of this machine that steps see as they are, such as a package index of its own."""
        self.root = root
        self.shared = shared
        self.user = "0:0"
        self.directory = "/"
        self.environment = {"PATH": PATH, "LANG": "C.UTF-8"}

    def make(self, suite: str, mirror: str) -> None:
        """A minimal Debian with Python, ready for the first step."""
        subprocess.run(["debootstrap", "--variant=minbase", suite, str(self.root), mirror], check=True, stdout=2)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        (self.root / "etc/apt/apt.conf.d/docker-clean").write_text(APT_KEEPS_NOTHING)
        self.run(f"apt-get update -q && apt-get install -q --yes --no-install-recommends {' '.join(PYTHON)}")
        self.run("python3 -m venv /usr/local")  # python and pip where the image has them
        self.run("apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin")

    def take(self, step: Step, context: Path) -> None:
        """Do what an instruction says."""
        if step.name == "RUN":
            self.run(step.text, **_of_this_machine())
        elif step.name == "COPY":
            self._copy(context, *step.words)
        elif step.name == "ENV":
            self.environment |= step.pairs
        elif step.name == "WORKDIR":
            self.directory = step.text
            (self.root / step.text.strip("/")).mkdir(exist_ok=True)
        elif step.name == "USER":
            self.user = step.text if ":" in step.text else f"{step.text}:{step.text}"

    def run(self, script: str, **environment: str) -> None:
        """Run a shell's line as the present user; it sees what is shared."""
        made = [self._mount_point(path) for path in self.shared]
        subprocess.run(
            self.command(["/bin/sh", "-c", script], self.shared),
            env={**self.environment, **environment},
            check=True,
            stdout=sys.stderr,
        )
        for path in made:
            if path:
                path.rmdir() if path.is_dir() else path.unlink()

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[Any]:
        """Start a command as the present user; it leads a session of its own."""
        return subprocess.Popen(
            self.command(command), env={**self.environment, **environment}, stdout=sys.stderr, start_new_session=True
        )

    def command(self, words: Sequence[str], shared: Sequence[Path] = ()) -> list[str]:
        """chroot's command line; what is mounted for it goes with it."""
        mounts = ['mount -t proc proc "$1/proc"', 'mount --bind /dev "$1/dev"']
        mounts += [f'mount --bind "{path}" "$1{path}"' for path in shared]
        enter = 'exec chroot --userspec "$2" "$1" /bin/sh -c \'cd "$0" && exec "$@"\' "$3" "${@:4}"'
        script = "; ".join([*mounts, enter])
        return ["unshare", "--mount", "bash", "-ec", script, "-", str(self.root), self.user, self.directory, *words]

    def _mount_point(self, path: Path) -> Path | None:
        """Make the place at which a shared path appears; what must go again, None if it was there."""
        there = self.root / str(path).strip("/")
        if there.exists():
            return None
        there.parent.mkdir(parents=True, exist_ok=True)
        there.mkdir() if path.is_dir() else there.touch()
        return there

    def _copy(self, context: Path, source: str, target: str) -> None:
        there = self.root / self.directory.strip("/") / target
        if (context / source).is_dir():
            shutil.copytree(context / source, there, ignore=_left_out(context), dirs_exist_ok=True)
        else:
            shutil.copy(context / source, there / source if target == "." else there)


def _left_out(context: Path) -> Callable[[str, list[str]], set[str]]:
    """What .dockerignore, which lets in by name and then takes out again, leaves out of a directory."""
    lines = (context / ".dockerignore").read_text().splitlines()
    let_in = [Path(line[1:]) for line in lines if line.startswith("!")]
    taken_out = [line for line in lines if line[:1] not in {"!", "#", "*"} or line.startswith("**/")]

    def left_out(directory: str, names: list[str]) -> set[str]:
        paths = {name: Path(directory, name).relative_to(context) for name in names}
        return {
            name
            for name, path in paths.items()
            if not any(path.is_relative_to(kept) or kept.is_relative_to(path) for kept in let_in)
            or any(path.match(line.removeprefix("**/")) if "*" in line else path == Path(line) for line in taken_out)
        }

    return left_out


def _of_this_machine() -> dict[str, str]:
    """How packages are reached from here, if there is a way of its own; an image would not know it."""
    return {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
