"""Prints the bill of materials of an image, in CycloneDX: every installed Python distribution and Debian package.

Runs inside the build with the image's own Python. Standard library only: a generator from the index would have to be installed into
the image it describes. The same image gives the same bytes.
"""

import importlib.metadata
import json
import subprocess
from urllib.parse import quote

Component = dict[str, object]


def list_distributions() -> list[Component]:
    """Python distributions, by name; purl as the package-url specification normalises it."""
    components: list[Component] = []
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        component: Component = {"type": "library", "name": name, "version": distribution.version, "purl": f"pkg:pypi/{name}@{quote(distribution.version)}"}
        if "License-Expression" in distribution.metadata:
            component["licenses"] = [{"expression": distribution.metadata["License-Expression"]}]
        components.append(component)
    return components


def list_packages() -> list[Component]:
    """Debian packages, by name."""
    fields = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    lines = subprocess.run(fields, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}&distro=debian-12"}
        for name, version, architecture in map(str.split, lines)
    ]


def describe() -> dict[str, object]:
    """The document, components sorted."""
    found = sorted(list_distributions() + list_packages(), key=lambda component: str(component["purl"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "assay"}},
        "components": [component | {"bom-ref": component["purl"]} for component in found],
    }


if __name__ == "__main__":
    print(json.dumps(describe(), indent=1))
