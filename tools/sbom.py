"""The bill of materials of what is installed: `make sbom` writes it as CycloneDX 1.6 JSON.

Everything that `openami[all]` needs at run time, as it is in this environment, with the licence that the wheel
itself carries, and the scripts of others in the console. Tools of development are not in it.
"""

import re
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
# What we may not need at run time, by the text that grants or is such a licence.
FORBIDDEN: Final[Mapping[str, re.Pattern[str]]] = {
    "GPL": re.compile(
        r"GNU (AFFERO |LESSER |LIBRARY )?GENERAL PUBLIC LICENSE\s*\n\s*Version \d"
        r"|under the\s+terms\s+of\s+the\s+GNU\s+(Affero |Lesser |Library )?General\s+Public\s+License",
        re.IGNORECASE,
    ),
    "BUSL": re.compile(r"Business Source License 1\.", re.IGNORECASE),
    "SSPL": re.compile(r"Server Side Public License", re.IGNORECASE),
    "Elastic": re.compile(r"Elastic License 2", re.IGNORECASE),
    "Commons Clause": re.compile(r"Commons Clause", re.IGNORECASE),
    "PolyForm": re.compile(r"PolyForm", re.IGNORECASE),
}
_is_licence_file = re.compile(r"(?i)(licen[cs]e|copying|copyright|notice)").search
_is_code = re.compile(r"\.(py|pyc|pyi)$").search
# Licences that a wheel names in a form of its own, by package; read in the package's own licence file.
_SAID: Final = {
    "iotcore": "MIT",
    "jinja2": "BSD-3-Clause",
    "mqtt5": "BSD-3-Clause",
    "protobuf": "BSD-3-Clause",
    "pyserial": "BSD-3-Clause",
    "reportlab": "BSD-3-Clause",
    "rfc8785": "Apache-2.0",
    "segno": "BSD-3-Clause",
}


@dataclass(frozen=True, slots=True)
class Needed:
    """A package that runs with ours, and which ones it needs itself."""

    installed: Distribution
    needs: frozenset[str]

    @property
    def name(self) -> str:
        return canonicalize_name(self.installed.metadata["Name"])

    def licence_files(self) -> Iterator[tuple[str, str]]:
        """Yield name and text of what its wheel says of its licence."""
        for file in self.installed.files or ():
            if _is_licence_file(file.name) and not _is_code(file.name):
                yield str(file), Path(str(file.locate())).read_text(errors="replace")

    def licence(self) -> str:
        """Return its licence as an SPDX expression."""
        if self.name in _SAID:
            return _SAID[self.name]
        told = self.installed.metadata.json
        return str(told.get("license_expression") or told["license"])


def needed(extras: frozenset[str] = frozenset({"all"})) -> dict[str, Needed]:
    """Return every package that ``openami`` with these extras needs here, ours among them, by name."""
    found: dict[str, Needed] = {}
    wanted: dict[str, frozenset[str]] = {}
    waiting = [("openami", extras)]
    while waiting:
        name, more = waiting.pop()
        if name in wanted and more <= wanted[name]:
            continue
        wanted[name] = wanted.get(name, frozenset()) | more
        installed = distribution(name)
        needs = {
            (canonicalize_name(requirement.name), frozenset(requirement.extras))
            for requirement in map(Requirement, installed.requires or ())
            if any(
                requirement.marker is None or requirement.marker.evaluate({"extra": extra})
                for extra in (wanted[name] or {""})
            )
        }
        found[name] = Needed(installed, frozenset(each for each, _ in needs if each != name))
        waiting.extend(needs)
    return found


def bill() -> Bom:
    """Return the bill: the same for the same environment."""
    packages = needed()
    components = {name: _component(each) for name, each in packages.items()}
    ours = components["openami"]
    bom = Bom(components=[each for name, each in components.items() if name != "openami"])
    bom.metadata.component = ours
    scripts = [_script(each) for each in vendored()]
    for script in scripts:
        bom.components.add(script)
    for name, each in packages.items():
        below = [components[need] for need in sorted(each.needs)]
        bom.register_dependency(components[name], [*below, *(scripts if name == "openami" else [])])
    told = "\n".join(sorted(str(each.purl) for each in [*components.values(), *scripts]))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, told)
    return bom


def vendored() -> list[dict[str, str]]:
    """Return the scripts of others that the console carries."""
    packages: list[dict[str, str]] = tomllib.loads((ROOT / "vendor.toml").read_text())["package"]
    return packages


def _component(each: Needed) -> Component:
    version = each.installed.version
    return Component(
        type=ComponentType.APPLICATION if each.name == "openami" else ComponentType.LIBRARY,
        name=each.name,
        version=version,
        description=str(each.installed.metadata["Summary"]),
        licenses=[LicenseFactory().make_from_string(each.licence())],
        purl=(purl := PackageURL("pypi", name=each.name, version=version)),
        bom_ref=str(purl),
    )


def _script(package: Mapping[str, str]) -> Component:
    purl = PackageURL("npm", name=package["name"], version=package["version"])
    return Component(
        type=ComponentType.LIBRARY,
        name=package["name"],
        version=package["version"],
        licenses=[LicenseFactory().make_from_string(package["licence"])],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package["sha256"])],
        purl=purl,
        bom_ref=str(purl),
    )


def as_json(bom: Bom) -> str:
    """Return the bill as CycloneDX 1.6."""
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def main() -> None:
    [target] = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    bom = bill()
    target.write_text(as_json(bom) + "\n")
    print(f"{target}: {len(bom.components)} components", file=sys.stderr)


if __name__ == "__main__":
    main()
