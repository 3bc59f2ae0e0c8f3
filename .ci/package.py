"""Builds what a release is made of, sdist and wheel, with the same bytes each time: `make dist`.

setuptools dates a wheel by SOURCE_DATE_EPOCH, but an sdist by the files' own times, owners and modes; so the sdist is
packed anew, and the wheel is built from it: whoever builds from the sdist gets that very wheel. The backend is this
environment's, whose versions the lock file gives.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess  # nosec B404 # it runs git and the build backend
import sys
import tarfile
import tempfile
from pathlib import Path

HOOK = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(source: Path, output: Path, epoch: int) -> list[Path]:
    """Build a tree's sdist and wheel into `output`; they are dated `epoch`, in seconds since 1970."""
    os.umask(0o022)  # the wheel keeps the modes of the files that it is built from
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sdist = output / _packed_anew(_run("build_sdist", source, place, epoch), output, epoch).name
        with tarfile.open(sdist) as packed:
            packed.extractall(place, filter="data")
        wheel = _run("build_wheel", place / sdist.name.removesuffix(".tar.gz"), output, epoch)
    return [sdist, wheel]


def _run(hook: str, source: Path, output: Path, epoch: int) -> Path:
    """One PEP 517 hook; the file that it made."""
    output.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    done = subprocess.run(  # noqa: S603 - our own words  # nosec B603
        [sys.executable, "-c", HOOK, hook, str(output.absolute())],
        cwd=source, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{hook} failed:\n{done.stdout}{done.stderr}")
    return output / done.stdout.splitlines()[-1]


def _packed_anew(sdist: Path, output: Path, epoch: int) -> Path:
    """The same files, sorted, of nobody, with one date and the usual modes."""
    made = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            kept = tarfile.TarInfo(member.name)
            kept.type, kept.size, kept.mtime = member.type, member.size, epoch
            kept.mode = 0o755 if member.isdir() else 0o644
            new.addfile(kept, old.extractfile(member) if member.isfile() else None)
    output.mkdir(parents=True, exist_ok=True)
    (output / sdist.name).write_bytes(gzip.compress(made.getvalue(), mtime=epoch))
    return output / sdist.name


def main(output: str) -> None:
    """Build the last commit, never what lies about beside it; dated by the commit."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], check=True, capture_output=True).stdout  # noqa: S603, S607 - our own words  # nosec B603, B607

    with tempfile.TemporaryDirectory() as source:
        with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", "HEAD"))) as tree:
            tree.extractall(source, filter="data")
        for path in build(Path(source), Path(output).absolute(), int(git("log", "-1", "--format=%ct"))):
            print(path)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
