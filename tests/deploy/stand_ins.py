"""Builds the stand-ins of `images/`, of Debian's packages as this machine's apt fetches them.

Packages are unpacked, not installed: no script of theirs runs, which takes seconds where a bootstrap takes a minute.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.deploy.engine import docker, has_image
from tests.deploy.shell import CommandFailed, run

IMAGES = Path(__file__).parent / "images"
BASES = {"python": "llm-gateway-test/python", "servers": "llm-gateway-test/servers"}
PYTHON_PACKAGES = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "libc-bin",
    "login", "mawk", "netbase", "passwd", "sed", "tar", "tzdata", "util-linux", "python3", "python3-pip",
    "python3-venv",
)  # fmt: skip
SERVER_PACKAGES = ("caddy", "libcap2-bin", "postgresql-15", "redis-server", "wget")
UNUSED = ("libc-l10n", "libllvm14", "libperl5.36", "libz3-4", "locales", "perl", "perl-modules-5.36")
"""wanted by others in the list, and 200 MB that nothing here runs"""
MERGED = ("bin", "sbin", "lib", "lib64")
"""links into /usr, as in every Debian of today; packages still bring some files by the old names"""
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
FETCH_WAIT_S, IMPORT_WAIT_S, BUILD_WAIT_S, PULL_WAIT_S, PIP_WAIT_S = 300.0, 120.0, 120.0, 120.0, 60.0


def provide(names: list[str], *, pull: bool) -> list[str]:
    """Have an image of each name; those that are stand-ins made now. `pull`: try to get the official one first."""
    missing = [name for name in names if not has_image(name)]
    if pull:
        missing = [name for name in missing if not _pulled(name)]
    if missing:
        with tempfile.TemporaryDirectory(prefix="gw-images-") as directory:
            _make_bases(Path(directory))
        for name in missing:
            build(name.partition(":")[0], name)
    return missing


def build(kind: str, name: str) -> None:
    """`kind`: one of the directories in `images`."""
    base = BASES["python" if kind == "python" else "servers"]
    docker("build", "-q", "--build-arg", f"BASE={base}", "-t", name, str(IMAGES / kind), wait_s=BUILD_WAIT_S)


def _pulled(name: str) -> bool:
    try:
        return docker("pull", "-q", name, wait_s=PULL_WAIT_S, check=False).status == 0
    except CommandFailed:
        return False


def _make_bases(work: Path) -> None:
    if all(has_image(name) for name in BASES.values()):
        return
    root = _empty_root(work / "root")
    _trust(root)
    for base, packages in (("python", PYTHON_PACKAGES), ("servers", PYTHON_PACKAGES + SERVER_PACKAGES)):
        _unpack(_fetched(packages, work / "packages"), root)
        _finish(root)
        _import(root, BASES[base])


def _empty_root(root: Path) -> Path:
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name, mode in (("root", 0o700), ("run", 0o755), ("tmp", 0o1777), ("var", 0o755)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    (root / "var/run").symlink_to("/run")
    return root


def _fetched(packages: tuple[str, ...], to: Path) -> list[Path]:
    """These packages and all that they need, whatever this machine has installed; without those fetched before."""
    (to / "partial").mkdir(parents=True, exist_ok=True)
    nothing = to / "status"
    nothing.touch()
    before = set(to.glob("*.deb"))
    options = [
        f"Dir::State::status={nothing}",
        f"Dir::Cache::archives={to}",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=root",
    ]
    flags = [flag for option in options for flag in ("-o", option)]
    argv = ["apt-get", "install", "-y", "-qq", "--download-only", "--no-install-recommends", *flags, *packages]
    try:
        run(*argv, wait_s=FETCH_WAIT_S)
    except CommandFailed:  # lists of packages may be older than what the mirror holds
        run("apt-get", "update", "-qq", wait_s=FETCH_WAIT_S)
        run(*argv, wait_s=FETCH_WAIT_S)
    return [one for one in sorted(set(to.glob("*.deb")) - before) if one.name.partition("_")[0] not in UNUSED]


def _unpack(packages: list[Path], root: Path) -> None:
    def one(package: Path) -> None:
        files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
        argv = ["tar", "-C", str(root), "--keep-directory-symlink", "-xf", "-"]
        done = subprocess.run(argv, stdin=files.stdout, capture_output=True, check=False, timeout=FETCH_WAIT_S)
        if files.wait() or done.returncode:
            raise CommandFailed(f"{package.name} cannot be unpacked: {done.stderr.decode()}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, packages))


def _finish(root: Path) -> None:
    """What the packages' own scripts would have done, as far as anything here needs it."""
    for name in ("passwd", "group"):
        if not (root / "etc" / name).exists():
            shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    for name, target in (("awk", "mawk"), ("python", "python3")):
        if not os.path.lexists(root / "usr/bin" / name):
            (root / "usr/bin" / name).symlink_to(target)
    for compiler in root.glob("usr/lib/postgresql/*/lib/llvmjit.so"):  # without its library
        compiler.unlink()
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n", "ascii")
    run("ldconfig", "-r", str(root), wait_s=IMPORT_WAIT_S)


def _trust(root: Path) -> None:
    """Reach the package index as this machine's pip does, whichever of its files and variables say how."""
    said = run(sys.executable, "-m", "pip", "config", "list", wait_s=PIP_WAIT_S, check=False)
    told = dict(re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", said, re.MULTILINE))
    kept = {name: value for name, value in told.items() if name in PIP_SETTINGS}
    trusted = Path(told.get("cert", CERTIFICATES))
    if trusted.is_file():
        (root / CERTIFICATES[1:]).parent.mkdir(parents=True)
        shutil.copy(trusted, root / CERTIFICATES[1:])
        kept["cert"] = CERTIFICATES
    (root / "etc").mkdir(exist_ok=True)
    lines = [f"{name} = {value}\n" for name, value in kept.items()]
    (root / "etc/pip.conf").write_text("[global]\n" + "".join(lines), "utf-8")


def _import(root: Path, name: str) -> None:
    packed = subprocess.Popen(["tar", "-C", str(root), "-cf", "-", "."], stdout=subprocess.PIPE)
    argv = ["docker", "import", "-", name]
    done = subprocess.run(argv, stdin=packed.stdout, capture_output=True, check=False, timeout=IMPORT_WAIT_S)
    if packed.wait() or done.returncode:
        raise CommandFailed(f"{name} cannot be imported: {done.stderr.decode()}")
