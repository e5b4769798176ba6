"""A command's server and key: by option, environment, profile, default; a key goes to its own server only."""

from __future__ import annotations

import json
import stat

import pytest

from loopgrid_query.cli import profiles
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.profiles import Profile, Profiles

STAGING, LIVE, OTHER = "https://staging.example.com", "https://live.example.com", "http://other:9000"


@pytest.fixture
def environ(tmp_path):
    """An environment with two profiles, of which one is in use."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    known = {"staging": Profile(STAGING, "key-s"), "live": Profile(LIVE, "key-l")}
    profiles.write(profiles.path(environ), Profiles(known, "staging"))
    return environ


@pytest.fixture
def flag():
    """Says what ``--profile`` names."""
    token = profiles.chosen.set(None)
    yield profiles.chosen.set
    profiles.chosen.reset(token)


@pytest.mark.parametrize(
    ("endpoint", "chosen", "variables", "expected"),
    [
        (None, None, {}, (STAGING, "key-s")),
        (None, None, {"LOOPGRID_PROFILE": "live"}, (LIVE, "key-l")),
        (None, None, {"LOOPGRID_API_KEY": "mine"}, (STAGING, "mine")),
        (None, None, {"LOOPGRID_ENDPOINT": OTHER}, (OTHER, None)),
        (None, None, {"LOOPGRID_ENDPOINT": OTHER, "LOOPGRID_API_KEY": "mine"}, (OTHER, "mine")),
        (None, None, {"LOOPGRID_ENDPOINT": STAGING + "/"}, (STAGING, "key-s")),
        (None, None, {"LOOPGRID_ENDPOINT": LIVE, "LOOPGRID_PROFILE": "live"}, (LIVE, "key-l")),
        (None, "live", {"LOOPGRID_ENDPOINT": OTHER, "LOOPGRID_API_KEY": "mine"}, (LIVE, "key-l")),
        (OTHER, None, {}, (OTHER, None)),
        (OTHER, None, {"LOOPGRID_API_KEY": "mine", "LOOPGRID_PROFILE": "live"}, (OTHER, "mine")),
        (STAGING, None, {"LOOPGRID_ENDPOINT": OTHER}, (STAGING, "key-s")),
        (LIVE, None, {}, (LIVE, None)),
    ],
)
def test_option_before_environment_before_profile(environ, flag, endpoint, chosen, variables, expected):
    flag(chosen)

    server = profiles.server(endpoint, environ | variables)

    assert (server.endpoint, server.api_key) == expected
    assert "key-" not in repr(server)


def test_without_any_profile_there_is_the_default(tmp_path, flag):
    server = profiles.server(None, {"XDG_CONFIG_HOME": str(tmp_path)})

    assert (server.endpoint, server.api_key) == ("http://127.0.0.1:8000", None)


@pytest.mark.parametrize(
    ("endpoint", "chosen", "variables", "said"),
    [
        (OTHER, "live", {}, "name two servers"),
        (None, None, {"LOOPGRID_ENDPOINT": OTHER, "LOOPGRID_PROFILE": "live"}, "unset one of them"),
        (None, "lvie", {}, "did you mean 'live'"),
        (None, None, {"LOOPGRID_PROFILE": "stagin"}, "did you mean 'staging'"),
    ],
)
def test_two_servers_or_an_unknown_profile_are_refused(environ, flag, endpoint, chosen, variables, said):
    flag(chosen)

    with pytest.raises(CliError, match=said):
        profiles.server(endpoint, environ | variables)


def test_nobody_but_its_owner_may_read_the_file(environ):
    file = profiles.path(environ)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_with_a_key_that_others_may_read_is_refused_with_the_remedy(environ, flag, mode):
    profiles.path(environ).chmod(mode)

    with pytest.raises(CliError, match="chmod 600"):
        profiles.server(None, environ)


def test_a_file_without_keys_may_be_read_by_others(environ, flag):
    file = profiles.path(environ)
    profiles.write(file, Profiles({"live": Profile(LIVE)}, "live"))
    file.chmod(0o644)

    assert profiles.server(None, environ).endpoint == LIVE


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "profiles": {}}', '{"version": 1, "profiles": {"a": {}}}']
)
def test_a_file_that_holds_no_profiles_is_refused_and_stays(environ, text):
    file = profiles.path(environ)
    file.write_text(text)

    with pytest.raises(CliError, match="mend it"):
        profiles.read(file)
    assert file.read_text() == text


def test_what_is_written_is_read_again(environ):
    found = profiles.read(profiles.path(environ))

    assert found.current == "staging"
    assert found.by_name["live"] == Profile(LIVE, "key-l")
    assert json.loads(profiles.path(environ).read_text())["version"] == 1
