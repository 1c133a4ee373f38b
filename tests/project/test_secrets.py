"""deploy/make-secrets: every secret that compose.yaml mounts, made once, kept, told to nobody."""

import hashlib
import re
import shutil
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.made_secrets import DEPLOY, SCRIPT, made, read, run

RANDOM = {
    "admin_secret", "grafana_admin_password", "key_pepper", "postgres_dashboard_password", "postgres_gateway_password",
    "postgres_owner_password", "postgres_password", "postgres_worker_password", "redis_gateway_password",
    "redis_operator_password", "redis_worker_password",
}  # fmt: skip
ADDRESSES = {
    "database_url_gateway": ("postgresql", "gateway", "postgres_gateway_password", "postgres:5432/gateway"),
    "database_url_owner": ("postgresql", "gateway_owner", "postgres_owner_password", "postgres:5432/gateway"),
    "database_url_worker": ("postgresql", "worker", "postgres_worker_password", "postgres:5432/gateway"),
    "redis_url_gateway": ("redis", "gateway", "redis_gateway_password", "redis:6379/0"),
    "redis_url_worker": ("redis", "worker", "redis_worker_password", "redis:6379/0"),
}
"""scheme, user, the file of the password, host and path"""
USERS = ("gateway", "worker", "operator")
ACCESS_LIST = "redis_users.acl"
COMPOSE = DEPLOY.parent / "compose.yaml"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def replace(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def check_whole(secrets: dict[str, str]) -> None:
    """All of them are there, and those that are made of others fit them."""
    assert secrets.keys() == RANDOM | ADDRESSES.keys() | {ACCESS_LIST}
    for name, (scheme, user, password, place) in ADDRESSES.items():
        assert secrets[name] == f"{scheme}://{user}:{secrets[password]}@{place}"
        assert urlsplit(secrets[name]).password == secrets[password]  # nothing in it has to be quoted
    lines = secrets[ACCESS_LIST].splitlines()
    assert [line.split()[:2] for line in lines] == [["user", name] for name in ("default", *USERS)]
    assert lines[0].startswith("user default reset off ")  # who is off cannot log in, whatever it may do
    for user, line in zip(USERS, lines[1:], strict=True):
        assert f" on #{digest(secrets[f'redis_{user}_password'])} " in line
        assert "nopass" not in line and "<" not in line and " #" not in line.replace(" on #", "", 1)


def test_all_are_made_random_and_readable_in_containers_alone(place: Path) -> None:
    done = run(place)
    assert (done.returncode, done.stderr) == (0, "")
    secrets = read(place)
    check_whole(secrets)
    values = [secrets[name] for name in RANDOM]
    assert len(set(values)) == len(RANDOM)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o444}
    assert set(re.findall(r"^made (\S+)$", done.stdout, re.M)) == secrets.keys()
    assert not [name for name in RANDOM if secrets[name] in done.stdout]


def test_those_are_made_that_compose_mounts(place: Path) -> None:
    mounted = re.findall(r"^ +([a-z_.]+): \{file: .*secrets\}/([a-z_.]+)\"", COMPOSE.read_text(), re.M)
    assert mounted
    assert {name for pair in mounted for name in pair} <= made(place).keys()


def test_a_second_run_changes_and_says_nothing(place: Path) -> None:
    before = made(place)
    inodes = {path.name: path.stat().st_ino for path in place.iterdir()}
    done = run(place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read(place) == before
    assert {path.name: path.stat().st_ino for path in place.iterdir()} == inodes


def test_what_is_missing_is_made_and_the_rest_stays(place: Path) -> None:
    before = made(place)
    (place / "admin_secret").unlink()
    (place / "redis_url_worker").unlink()
    after = made(place)
    check_whole(after)
    assert {name for name in after if after[name] != before[name]} == {"admin_secret"}


def test_what_is_made_of_a_replaced_password_is_made_again(place: Path) -> None:
    before = made(place)
    replace(place / "redis_worker_password", "another.password-of_mine~")
    (place / "postgres_owner_password").unlink()
    done = run(place)
    after = read(place)
    check_whole(after)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "redis_worker_password", "redis_url_worker", ACCESS_LIST, "postgres_owner_password", "database_url_owner"
    }  # fmt: skip
    assert "made redis_url_worker again" in done.stdout
    assert "another.password" not in done.stdout + done.stderr


def test_an_address_of_ones_own_stays(place: Path) -> None:
    made(place)
    own = "postgresql://gateway.project:secret@pooler.example.org:6543/postgres"
    replace(place / "database_url_gateway", own)
    (place / "postgres_gateway_password").unlink()
    done = run(place)
    assert (done.returncode, read(place)["database_url_gateway"]) == (0, own)
    assert "left database_url_gateway as it is" in done.stdout
    assert own not in done.stdout


def test_other_places_can_be_named(place: Path) -> None:
    secrets = made(place, POSTGRES_ADDRESS="127.0.0.1:5433", REDIS_ADDRESS="127.0.0.1:6380")
    assert secrets["database_url_owner"].endswith("@127.0.0.1:5433/gateway")
    assert secrets["redis_url_gateway"].endswith("@127.0.0.1:6380/0")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("admin_secret", "", "admin_secret is missing or empty"),
        ("redis_gateway_password", "a password with spaces", "redis_gateway_password may hold only letters"),
        ("redis_operator_password", "a:password@with#marks", "redis_operator_password may hold only letters"),
        ("postgres_worker_password", "tiny-one", "postgres_worker_password is shorter than 16"),
        ("redis_operator_password", "", "redis_operator_password is shorter than 16"),
    ],
)
def test_what_cannot_be_used_is_named_and_ends_it(place: Path, name: str, text: str, said: str) -> None:
    made(place)
    replace(place / name, text)
    done = run(place)
    assert done.returncode == 1
    assert said in done.stderr
    assert not text or text not in done.stderr + done.stdout


def test_a_directory_in_the_place_of_a_secret_ends_it(place: Path) -> None:
    (place / "key_pepper").mkdir(parents=True)  # as Docker makes one where a file to mount is missing
    done = run(place)
    assert (done.returncode, "key_pepper is missing or empty" in done.stderr) == (1, True)


def test_they_are_made_where_compose_looks_for_them(tmp_path: Path) -> None:
    (tmp_path / "deploy" / "redis").mkdir(parents=True)
    for name in ("make-secrets", "stack.sh", "redis/users.acl"):
        shutil.copy(DEPLOY / name, tmp_path / "deploy" / name)
    (tmp_path / ".env").write_text("GATEWAY_REPLICAS=2\nSECRETS_DIR='./of-dotenv'\n")
    script = tmp_path / "deploy" / "make-secrets"
    elsewhere = tmp_path / "of-environment"
    assert run(None, script).returncode == 0
    assert run(None, script, SECRETS_DIR=str(elsewhere)).returncode == 0
    assert run(tmp_path / "of-argument", script, SECRETS_DIR="/nowhere").returncode == 0
    for place in (tmp_path / "of-dotenv", elsewhere, tmp_path / "of-argument"):
        check_whole(read(place))


def test_a_template_with_an_unknown_password_ends_it(place: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(DEPLOY / "redis", tmp_path / "deploy" / "redis")
    shutil.copy(DEPLOY / "stack.sh", tmp_path / "deploy")
    script = shutil.copy(SCRIPT, tmp_path / "deploy")
    with (copy / "users.acl").open("a") as template:
        template.write("user mine on #<redis_mine_password>\n    ~mine:* +get\n")
    assert run(place, Path(script)).returncode != 0
    assert ACCESS_LIST not in read(place)
    (place / "redis_mine_password").write_text("one of sixteen or more".replace(" ", "-"))
    done = run(place, Path(script))
    assert done.returncode == 0, done.stderr
    last = read(place)[ACCESS_LIST].splitlines()[-1]
    assert last == f"user mine on #{digest('one-of-sixteen-or-more')} ~mine:* +get"


def test_a_new_pepper_beside_old_secrets_is_told(place: Path) -> None:
    made(place)
    (place / "key_pepper").unlink()
    assert "keys that were made under the former one do not work" in run(place).stderr
