"""deploy/systemd: systemd takes the units, they give away little, and they fit the code and nginx' file."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.listener import SETTLE_S
from gateway.cli.main import COMMANDS
from gateway.settings import FILE, NAMES, WRITTEN_NAMES, load

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "systemd"
SERVICES = ("llm-gateway@.service", "llm-gateway-worker.service", "llm-gateway-migrate.service")
PROGRAM = "/opt/llm-gateway/bin/llm-gateway"
SECRETS = "/etc/llm-gateway/secrets/"
OF_PYTHON = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
EXPOSURE_MAX = 15
"""tenths of what `systemd-analyze security` says, of 100"""
WAIT_S = 60
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(not ANALYZE, reason="there is no systemd here: apt-get install systemd")


def lines(unit: str) -> list[tuple[str, str]]:
    """What a unit says, in its order; comments and sections left out."""
    text = (FOLDER / unit).read_text()
    said = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    return [(name, value) for name, _, value in (line.partition("=") for line in said)]


def values(unit: str, name: str) -> list[str]:
    return [value for key, value in lines(unit) if key == name]


def environment(unit: str) -> dict[str, str]:
    given = (part.partition("=") for value in values(unit, "Environment") for part in value.split())
    return {name: value for name, _, value in given}


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Path]:
    """The units, on a machine where the program is there."""
    for path in FOLDER.glob("llm-gateway*"):
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    yield tmp_path


@needs_systemd
def test_systemd_takes_them_without_a_word(units: Path) -> None:
    names = [*SERVICES, "llm-gateway.target"]
    done = _analyze(units, "verify", "--man=no", *(str(units / name) for name in names))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_they_give_away_little(units: Path, unit: str) -> None:
    done = _analyze(units, "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE_MAX}", str(units / unit))
    print(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout


def _analyze(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    env = {"SYSTEMD_UNIT_PATH": f"{directory}:", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    return subprocess.run([str(ANALYZE), *words], env=env, capture_output=True, text=True, timeout=WAIT_S)


def test_all_three_may_do_the_same_and_no_more() -> None:
    rights = []
    for unit in SERVICES:
        said = lines(unit)
        start = said.index(("DynamicUser", "yes"))
        rights.append([line for line in said[start:] if line[0] != "WantedBy"])
    assert rights[0] == rights[1] == rights[2]
    assert ("CapabilityBoundingSet", "") in rights[0]
    assert all(values(unit, name) for unit in SERVICES for name in ("MemoryMax", "TasksMax", "LimitNOFILE"))


@pytest.mark.parametrize("unit", SERVICES)
def test_what_they_set_are_settings_and_secrets_come_as_files(unit: str) -> None:
    given = environment(unit)
    assert set(given) <= {*WRITTEN_NAMES, *OF_PYTHON}
    load({name: value for name, value in given.items() if name in NAMES and "%" not in value})  # raises for a bad one
    handed = dict(value.split(":", 1) for value in values(unit, "LoadCredential"))
    files = {name: value for name, value in given.items() if name.endswith(FILE)}
    assert sorted(files.values()) == sorted(f"%d/{name}" for name in handed)
    assert all(path.startswith(SECRETS) for path in handed.values())


def test_each_part_gets_the_secrets_of_its_own_role_which_make_secrets_makes(tmp_path: Path) -> None:
    made = tmp_path / "secrets"
    subprocess.run(["sh", str(DEPLOY / "make-secrets"), str(made)], check=True, capture_output=True, timeout=WAIT_S)
    handed = {unit: {one.rpartition("/")[2] for one in values(unit, "LoadCredential")} for unit in SERVICES}
    assert list(handed.values()) == [
        {"admin_secret", "key_pepper", "database_url_gateway", "redis_url_gateway"},
        {"database_url_worker", "redis_url_worker"},
        {"database_url_owner", "redis_url_worker"},
    ]
    assert set().union(*handed.values()) <= {path.name for path in made.iterdir()}


def test_they_run_commands_that_there_are() -> None:
    run = [value.split() for unit in SERVICES for value in values(unit, "ExecStart")]
    assert [words[0] for words in run] == [PROGRAM] * 3
    assert [words[1] for words in run] == ["serve", "worker", "migrate"]
    assert {words[1] for words in run} | {"health"} <= set(COMMANDS)
    assert f"{PROGRAM} health" in values(SERVICES[0], "ExecStartPost")[0]


def test_there_is_time_to_drain_and_nginx_lets_go_before() -> None:
    settings = load(
        {name: value for name, value in environment(SERVICES[0]).items() if name in NAMES and "%" not in value}
    )
    needed_s = settings.balancer_seconds + settings.drain_seconds + SETTLE_S
    assert int(values(SERVICES[0], "TimeoutStopSec")[0]) > needed_s
    upstream = (DEPLOY / "nginx" / "llm-gateway.conf").read_text().split("upstream llm_gateway {")[1].split("}")[0]
    idle_s = int(re.findall(r"keepalive_timeout (\d+)s;", upstream)[0])
    assert idle_s < settings.balancer_seconds
    assert set(re.findall(r"server 127\.0\.0\.1:(\d+)", upstream)) == _ports()


def _ports() -> set[str]:
    """Of the replicas that the target starts."""
    return set(re.findall(r"llm-gateway@(\d+)\.service", values("llm-gateway.target", "Wants")[0]))


def test_the_target_starts_what_is_there() -> None:
    wanted = re.sub(r"@\d+", "@", values("llm-gateway.target", "Wants")[0]).split()
    assert set(wanted) == {"llm-gateway@.service", "llm-gateway-worker.service"}
    for unit in set(wanted):
        assert values(unit, "PartOf") == ["llm-gateway.target"]
        assert "llm-gateway-migrate.service" in values(unit, "After")[0]
        assert "llm-gateway-migrate.service" in values(unit, "Wants")[0]  # an upgrade runs it again, and stops nobody


def test_the_file_of_settings_holds_settings_and_no_secrets() -> None:
    text = (FOLDER / "llm-gateway.env").read_text()
    given = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    load(given)
    assert set(given) <= set(NAMES)
    assert not {name + FILE for name in given} & set(WRITTEN_NAMES)
