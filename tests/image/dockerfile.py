"""Reads the Dockerfile: the instructions of a stage, those of the stages that it builds on first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction: its name in capitals, and the rest of its line."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments of one in exec form, else its words."""
        return list(json.loads(self.text)) if self.text.startswith("[") else self.text.split()

    @property
    def pairs(self) -> dict[str, str]:
        """NAME=value, ... of an ENV."""
        return dict(re.findall(r"(\w+)=(\S+)", self.text))


def steps(dockerfile: Path, stage: str = "") -> list[Step]:
    """What builds a stage by its name (the last one without): FROM an image first, no FROM after it."""
    stages: dict[str, list[Step]] = {}
    name = ""
    for step in _instructions(dockerfile.read_text()):
        if step.name == "FROM":
            image, *rest = step.words
            name = rest[1] if rest else ""
            stages[name] = list(stages.get(image, [step]))
        else:
            stages[name].append(step)
    return stages[stage]


def _instructions(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield Step(name.upper(), rest.strip())
