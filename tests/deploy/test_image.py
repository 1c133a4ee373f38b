"""The image: small, of one user without rights, with nothing in it that built it and nothing secret."""

import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import shell, source
from tests.deploy.engine import docker
from tests.deploy.shell import Said

LOCKED_DOWN = (
    "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "10001:10001",
    "--network", "none", "--pids-limit", "64",
)  # fmt: skip
BUILD_TOOLS = ("gcc", "cc", "g++", "clang", "ld", "make", "cargo", "rustc", "git")
MADE_BY_US = (
    "opt/",
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/gshadow",
    "etc/subuid",
    "etc/subgid",
    "etc/.pwd.lock",
)
UID = "10001"
CHUNK_BYTES = 1 << 20
EXPORT_WAIT_S = 120.0
WHEELS_WAIT_S = 180.0
ARM64 = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def inspected(image: str) -> dict[str, Any]:
    return dict(json.loads(docker("image", "inspect", image))[0])


def run(image: str, *argv: str, flags: tuple[str, ...] = ()) -> Said:
    return docker("run", "--rm", *LOCKED_DOWN, *flags, image, *argv, check=False)


@pytest.fixture(scope="module")
def packed(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole file system of the image."""
    return exported(image, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def files(packed: Path) -> dict[str, tarfile.TarInfo]:
    return listed(packed)


def exported(image: str, to: Path) -> Path:
    container = docker("create", image)
    try:
        docker("export", "--output", str(to / "image.tar"), container, wait_s=EXPORT_WAIT_S)
    finally:
        docker("rm", container)
    return to / "image.tar"


def listed(packed: Path) -> dict[str, tarfile.TarInfo]:
    """Every path in it, from the root."""
    with tarfile.open(packed) as opened:
        return {one.name.removeprefix("./").rstrip("/"): one for one in opened}


def test_its_size_is_told_and_it_says_what_it_is(image: str, tree: Path) -> None:
    base = re.search(r"^FROM (\S+)$", (tree / "Containerfile").read_text("utf-8"), re.MULTILINE)
    assert base
    told, under = inspected(image), inspected(base[1])
    added = told["Size"] - under["Size"]
    print(f"\nimage: {told['Size'] / 1e6:.0f} MB, of which {added / 1e6:.0f} MB are not {base[1]}")
    config = told["Config"]
    assert config["User"].split(":")[0] == UID
    assert config["Entrypoint"] == ["llm-gateway"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "llm-gateway"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert {"title", "description", "licenses", "version", "revision"} <= {
        name for name, value in labels.items() if value
    }


def test_it_works_read_only_without_capabilities_as_nobody_in_particular(image: str, tree: Path) -> None:
    document = run(image, "openapi")
    assert document.status == 0, document.errors
    assert json.loads(document) == json.loads((tree / "deploy/openapi.json").read_text("utf-8"))
    status = run(image, "-c", "print(open('/proc/self/status').read())", flags=("--entrypoint", "python3"))
    assert re.search(rf"^Uid:\s+{UID}\s", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


@pytest.mark.parametrize(
    ("part", "named"), [("serve", "REDIS_URL"), ("worker", "REDIS_URL"), ("migrate", "DATABASE_URL")]
)
def test_each_part_starts_and_says_what_it_lacks(image: str, part: str, named: str) -> None:
    said = run(image, part)
    assert said.status == 2, said.errors
    assert named in said.errors


def test_nothing_that_builds_is_in_it(image: str, files: dict[str, tarfile.TarInfo]) -> None:
    there = {Path(name).name for name in files if re.match(r"(opt/gateway|usr|usr/local)/s?bin/", name)}
    assert not there & set(BUILD_TOOLS)
    ours = [name for name in files if name.startswith("opt/gateway/")]
    assert not [name for name in ours if re.search(r"/(pip|setuptools|wheel)(-[^/]*)?/", name)]
    assert not [name for name in ours if name.endswith(".c")]


def test_only_the_gateway_is_added_to_its_base(tree: Path, files: dict[str, tarfile.TarInfo], tmp_path: Path) -> None:
    base = re.findall(r"^FROM (\S+)$", (tree / "Containerfile").read_text("utf-8"), re.MULTILINE)[-1]
    added = files.keys() - listed(exported(base, tmp_path)).keys()
    assert [name for name in added if not f"{name}/".startswith(MADE_BY_US)] == []
    writable = [
        name
        for name, one in files.items()
        if name.startswith("opt/") and (one.uid or (one.mode & 0o022 and not one.issym()))
    ]
    assert writable == [], "the gateway could change itself"


def test_no_secret_and_no_stray_file_is_in_it(image: str, packed: Path) -> None:
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    environment = inspected(image)["Config"]["Env"]
    assert not re.search(r"(?i)(password|secret|token|pepper)\s*=", "\n".join([history, *environment]))
    found = []
    with tarfile.open(packed) as opened:
        for one in opened:
            name = Path(one.name)
            if name.parts[:1] == ("opt",) and ({".git", ".env", "secrets", "tests"} & set(name.parts[:6])):
                found.append(one.name)
            if one.isfile() and (content := opened.extractfile(one)) and holds(content, source.LEFT_BEHIND.encode()):
                found.append(one.name)
    assert found == []


def holds(file: Any, wanted: bytes) -> bool:
    kept = b""
    while chunk := file.read(CHUNK_BYTES):
        if wanted in kept + chunk:
            return True
        kept = chunk[-len(wanted) :]
    return False


def test_every_dependency_has_a_wheel_for_arm64_too(tree: Path, tmp_path: Path) -> None:
    """Nothing is installed, and no engine is needed: whether the locked files are there to be had."""
    platforms = [word for name in ARM64 for word in ("--platform", name)]
    abis = [word for name in ("cp313", "abi3", "none") for word in ("--abi", name)]
    flags = [
        "--dry-run",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--target",
        str(tmp_path),
    ]
    python = ["--implementation", "cp", "--python-version", "3.13"]
    wanted = ["--requirement", str(tree / "requirements.txt")]
    shell.run(sys.executable, "-m", "pip", "install", *flags, *platforms, *python, *abis, *wanted, wait_s=WHEELS_WAIT_S)
