"""Prints what the binary is made of, as CycloneDX 1.5 (JSON): sbom.py TRIPLE SECONDS BINARY, from the top folder of the source.

The crates are those that cargo links for the triple (`cargo metadata --locked`), with the checksums of Cargo.lock. Nothing
in it depends on the machine or the time of the build.
"""

import datetime
import hashlib
import json
import os
import subprocess
import sys
import tomllib
import uuid


def main():
    triple, seconds, binary = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "metadata", "--locked", "--format-version", "1", "--filter-platform", triple]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    packages = {package["id"]: package for package in metadata["packages"]}
    needs = {
        node["id"]: sorted(dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"]))
        for node in metadata["resolve"]["nodes"]
    }
    root = metadata["resolve"]["root"]
    linked, open_ones = {root}, [root]
    while open_ones:
        for dep in needs[open_ones.pop()]:
            if dep not in linked:
                linked.add(dep)
                open_ones.append(dep)

    def reference(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package, kind):
        found = {
            "type": kind,
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "description": " ".join((package["description"] or "").split()),
            "licenses": [{"expression": package["license"].replace("/", " OR ")}],
            "purl": reference(package),
        }
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package["repository"]:
            found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return found

    with open(binary, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    ordered = sorted(linked, key=lambda name: reference(packages[name]))
    subject = component(packages[root], "application")
    subject["hashes"] = [{"alg": "SHA-256", "content": digest}]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": subject,
            "properties": [{"name": "target", "value": triple}],
        },
        "components": [component(packages[name], "library") for name in ordered if name != root],
        "dependencies": [
            {
                "ref": reference(packages[name]),
                "dependsOn": sorted({reference(packages[dep]) for dep in needs[name] if dep in linked}),
            }
            for name in ordered
        ],
    }
    json.dump(bom, sys.stdout, indent=1, ensure_ascii=False)
    print()


main()
