"""Settings that hold secrets may come out of files: exactly one way at a time, and no message tells what is in them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.secret_file import BYTES_MAX
from gateway.settings import FROM_FILES, NAMES, Settings, SettingsError, load

SECRET = "correct-horse-battery-staple-9f3a7c"
VALUES = {
    "REDIS_URL": f"redis://gateway:{SECRET}@redis:6379/0",
    "DATABASE_URL": f"postgresql://gateway:{SECRET}@postgres/gateway",
}


def value_of(name: str) -> str:
    return VALUES.get(name, SECRET)


def file_with(directory: Path, content: str | bytes) -> str:
    path = directory / "value"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def problem(env: dict[str, str], dotenv: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(env, dotenv)
    (line,) = caught.value.problems
    assert SECRET not in line
    return line


@pytest.mark.parametrize("name", FROM_FILES)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", " \n"])
def test_a_file_gives_the_value_without_its_line_end(tmp_path: Path, name: str, ending: str) -> None:
    first = {"ADMIN_SECRET": SECRET} if name == "ADMIN_SECRET_PREVIOUS" else {}
    read = load({**first, f"{name}_FILE": file_with(tmp_path, value_of(name) + ending)})
    assert read == load({**first, name: value_of(name)})
    assert read != load(first)


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_value_and_a_file_exclude_each_other(tmp_path: Path, name: str) -> None:
    line = problem({name: value_of(name), f"{name}_FILE": file_with(tmp_path, value_of(name))})
    assert line == f"{name} and {name}_FILE are both set: leave one of them out"


def test_an_empty_value_or_an_empty_file_name_is_none(tmp_path: Path) -> None:
    path = file_with(tmp_path, SECRET)
    assert load({"ADMIN_SECRET": "", "ADMIN_SECRET_FILE": path}).admin_secret == SECRET
    assert load({"ADMIN_SECRET": SECRET, "ADMIN_SECRET_FILE": " "}).admin_secret == SECRET
    assert load({"ADMIN_SECRET_FILE": ""}) == Settings()


@pytest.mark.parametrize("named_by", ["ADMIN_SECRET", "ADMIN_SECRET_FILE"])
def test_the_environment_wins_over_dotenv_by_either_name(tmp_path: Path, named_by: str) -> None:
    dotenv, other = tmp_path / ".env", "another-secret-of-the-dotenv-file-71"
    (tmp_path / "other").write_text(other)
    env = {named_by: SECRET if named_by == "ADMIN_SECRET" else file_with(tmp_path, SECRET)}
    for line in (f"ADMIN_SECRET={other}", f"ADMIN_SECRET_FILE={tmp_path / 'other'}"):
        dotenv.write_text(line)
        assert load(env, dotenv).admin_secret == SECRET
        assert load({}, dotenv).admin_secret == other


def test_a_misspelt_file_setting_in_dotenv_is_named(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"DATABASE_UR_FILE={SECRET}")
    assert problem({}, dotenv) == (
        ".env line 1: no setting is called DATABASE_UR_FILE (did you mean DATABASE_URL_FILE?)"
    )
    dotenv.write_text(f"PORT_FILE={SECRET}")
    assert "no setting is called PORT_FILE" in problem({}, dotenv)


def test_only_settings_that_exist_come_from_files() -> None:
    assert set(FROM_FILES) < set(NAMES)


def _missing(directory: Path) -> str:
    return str(directory / "nothing")


def _directory(directory: Path) -> str:
    return str(directory)


def _of(content: str | bytes) -> Callable[[Path], str]:
    return lambda directory: file_with(directory, content)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (_missing, "no such file"),
        (_directory, "directory"),
        (lambda _: "/dev/zero", "no ordinary file"),
        (lambda _: SECRET, "no such file"),  # the secret itself, by mistake
        (lambda directory: str(directory / ("x" * 300)), "(File name too long)"),
        (_of(""), "empty"),
        (_of(" \n"), "empty"),
        (_of(f"{SECRET}\n{SECRET}\n"), "more than one line"),
        (_of(b"\xff" + SECRET.encode()), "UTF-8"),
        (_of(SECRET.ljust(BYTES_MAX + 1, "x")), f"more than {BYTES_MAX} bytes"),
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "ADMIN_SECRET", "KEY_PEPPER_PREVIOUS"])
def test_a_file_that_gives_no_value_is_one_line(
    tmp_path: Path, name: str, made: Callable[[Path], str], said: str
) -> None:
    line = problem({f"{name}_FILE": made(tmp_path)})
    assert line.startswith(f"{name}_FILE: ")
    assert said in line


def test_an_unreadable_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = file_with(tmp_path, SECRET)
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    assert problem({"KEY_PEPPER_FILE": path}) == "KEY_PEPPER_FILE: the file cannot be read (Permission denied)"


def test_a_bad_value_in_a_file_is_told_as_elsewhere(tmp_path: Path) -> None:
    assert problem({"REDIS_URL_FILE": file_with(tmp_path, f"mysql://{SECRET}")}).startswith("REDIS_URL must start with")
