"""Reads the vectors of the contract, as any implementation's test would."""

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Vector:
    """One case: see ``spec/vectors/README.md``."""

    kind: str
    name: str
    content: dict[str, Any]

    @property
    def topic(self) -> str:
        topic = self.content["topic"]
        assert isinstance(topic, str)
        return topic

    @property
    def payload(self) -> bytes:
        if "payload_base64" in self.content:
            return base64.b64decode(self.content["payload_base64"], validate=True)
        if "payload_pieces" in self.content:
            return "".join(
                piece if isinstance(piece, str) else piece["text"] * piece["times"]
                for piece in self.content["payload_pieces"]
            ).encode()
        payload = self.content["payload"]
        assert isinstance(payload, str)
        return payload.encode()

    @property
    def result(self) -> dict[str, Any]:
        result = self.content["result"]
        assert isinstance(result, dict)
        return result


def vectors(*kinds: str, verdict: str = "") -> list[Vector]:
    """Return the vectors of some kinds whose name begins with a verdict: ``y_``, ``n_``, ``i_``."""
    root = files("openami.spec").joinpath("vectors")
    return [
        Vector(kind, file.name.removesuffix(".json"), json.loads(file.read_text()))
        for kind in kinds
        for file in sorted(root.joinpath(kind).iterdir(), key=lambda each: each.name)
        if file.name.startswith(verdict)
    ]
