"""One engine, one image and one stack for the whole folder; all of it is gone afterwards."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import source, stand_ins
from tests.deploy.engine import Engine, NoEngine, docker
from tests.deploy.stack import Stack, open_ports

CI = bool(os.environ.get("CI"))
ORDER = ("test_image", "test_stack", "test_load", "test_slow_clients", "test_backup")
BUILD_WAIT_S = 300.0
SECONDS_MAX = 600
"""of one test, with what it waits for to be built and started"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In `ORDER`: what a fresh stack does is looked at before it is scaled, broken and destroyed."""
    here = Path(__file__).parent
    places = [number for number, item in enumerate(items) if here in item.path.parents]
    ours = sorted((items[place] for place in places), key=lambda item: ORDER.index(item.path.stem))
    for place, item in zip(places, ours, strict=True):
        item.add_marker(pytest.mark.timeout(SECONDS_MAX))
        items[place] = item


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    log = Path(tempfile.mkdtemp(prefix="gw-engine-")) / "dockerd.log"
    engine = Engine(log, ci=CI)
    began_s = time.monotonic()
    try:
        engine.start()
    except NoEngine as error:
        if CI:
            pytest.fail(f"CI has to run these tests: {error}")
        pytest.skip(str(error))
    print(f"\ncontainer engine: {time.monotonic() - began_s:.1f} s")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def tree() -> Iterator[Path]:
    """A clean clone of this repository."""
    directory = Path(tempfile.mkdtemp(prefix="gw-clone-"))
    yield source.clone(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def run_name() -> str:
    return f"gwtest{os.urandom(3).hex()}"


@pytest.fixture(scope="session")
def image(engine: Engine, tree: Path, run_name: str) -> Iterator[str]:
    """The name of the image that the clone's Containerfile makes."""
    began_s = time.monotonic()
    made = stand_ins.provide(source.image_names(tree), pull=not CI)
    print(f"images of others: {time.monotonic() - began_s:.1f} s; stand-ins made: {', '.join(made) or 'none'}")
    name, began_s = f"{run_name}:test", time.monotonic()
    proxies = [name for name in ("http_proxy", "https_proxy", "no_proxy") if os.environ.get(name)]
    arguments = [word for proxy in proxies for word in ("--build-arg", proxy)]
    docker(
        "build", "--quiet", "--file", "Containerfile", "--network", "host", *arguments, "--tag", name, ".",
        cwd=tree, wait_s=BUILD_WAIT_S,
    )  # fmt: skip
    print(f"image built from a clean clone: {time.monotonic() - began_s:.1f} s")
    yield name
    docker("rmi", "--force", name, check=False)


@pytest.fixture(scope="session")
def stack(image: str, tree: Path, run_name: str) -> Iterator[Stack]:
    """Up, with three replicas, from clean volumes."""
    stack = Stack(tree, image, run_name)
    stack.ports_before, stack.alone = open_ports(), CI
    stack.make_secrets()
    try:
        stack.up()
        yield stack
    finally:
        stack.down()
