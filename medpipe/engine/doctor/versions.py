"""Versions of what medpipe stands on, and those known to be bad. Nothing is imported: a bad package may do harm."""

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from medpipe.engine.doctor.finding import Finding
from medpipe.version import __version__

# Package -> (versions, why they are bad, what to install).
KNOWN_BAD = {
    "torch": (
        "==2.9.*",
        "its cuDNN is off for half-precision Conv3d: 3D training about four times slower (pytorch issue 166122)",
        "pip install 'torch>=2.10'",
    ),
    "pytorch-lightning": (
        "==2.6.2,==2.6.3",
        "malware was published under this version (GHSA-w37p-236h-pfx3): it may have read keys and tokens here",
        "pip install 'pytorch-lightning>=2.6.4', then change the credentials that this account could read",
    ),
    "lightning": (
        "==2.6.2,==2.6.3",
        "malware was published under this version (GHSA-w37p-236h-pfx3): it may have read keys and tokens here",
        "pip uninstall lightning, then change the credentials that this account could read",
    ),
}
CORE = ("torch", "pytorch-lightning", "monai", "numpy", "pydantic", "nibabel", "SimpleITK", "pydicom")


def version_findings() -> list[Finding]:
    """Python, medpipe, the core packages, the known-bad ones, and what breaks by being there."""
    return [python_version(), *core_versions(), *bad_versions(), *unfit_requirements(), *torchvision()]


def python_version() -> Finding:
    text = f"Python {platform.python_version()}, medpipe {__version__}"
    if (3, 11) <= sys.version_info < (3, 13):
        return Finding("python", "ok", text)
    return Finding("python", "fault", text, "medpipe needs Python 3.11 or 3.12")


def installed(package: str) -> str | None:
    """The version that an import would take."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def core_versions() -> Iterator[Finding]:
    """One line for all that is there, one for each that is missing."""
    found = {package: installed(package) for package in CORE}
    there = ", ".join(f"{package} {version}" for package, version in found.items() if version)
    yield Finding("versions", "ok", there or "none of the core packages")
    for package, version in found.items():
        if version is None:
            yield Finding(package, "fault", "not installed", f"pip install {package}")


def bad_versions() -> Iterator[Finding]:
    """The versions that are known to be bad, each by name."""
    for package, (versions, why, remedy) in KNOWN_BAD.items():
        version = installed(package)
        if version and any(
            Requirement(f"x{one}").specifier.contains(version, prereleases=True) for one in versions.split(",")
        ):
            yield Finding(package, "fault", f"version {version}: {why}", remedy)


def unfit_requirements() -> Iterator[Finding]:
    """Packages outside the range that medpipe asks for."""
    try:
        requirements = importlib.metadata.requires("medpipe") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name in KNOWN_BAD and bad(requirement.name):
            continue  # told already
        version = installed(requirement.name)
        if version is None or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            fits = requirement.specifier.contains(Version(re.sub(r"\+.*", "", version)), prereleases=True)
        except InvalidVersion:
            continue
        if not fits:
            wanted = f"{requirement.name}{requirement.specifier}"
            yield Finding(
                requirement.name, "fault", f"version {version}, medpipe needs {wanted}", f"pip install '{wanted}'"
            )


def bad(package: str) -> bool:
    return any(finding.check == package for finding in bad_versions())


def torchvision() -> Iterator[Finding]:
    """A torchvision for another torch breaks the import of pytorch_lightning."""
    version, torch = installed("torchvision"), installed("torch")
    if version is None:
        return
    text = (
        f"version {version} beside torch {torch}; medpipe does not use it, and a build for another torch breaks imports"
    )
    yield Finding("torchvision", "warning", text, "pip uninstall torchvision, unless something else needs it")
