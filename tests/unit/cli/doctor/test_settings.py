"""The doctor's checks of the settings and of the machine: each with what is well and what is not."""

from pathlib import Path

import pytest

from restante.cli.doctor import configuration, machine
from restante.cli.doctor.findings import Case, Level, carry_out, failure, ok, warning, worst
from restante.config import load


def case(environment=None, **flags):
    return Case(config=load(None, {}, flags), environment=environment or {})


def test_settings_that_can_be_read(tmp_path):
    file = tmp_path / "restante.toml"
    file.write_text('log_level = "debug"\n')
    config, found = configuration.settings(file, {"RESTANTE_LOG_FORMAT": "json", "HOME": "/"}, {})
    assert config is not None
    assert (config.log_level, config.log_format) == ("debug", "json")
    assert found == ok("settings", f"{file}, and 1 from the environment")


@pytest.mark.parametrize("text", ['colour = "red"', "listen = 7", "not toml", 'tls_key = "k"'])
def test_settings_that_cannot(tmp_path, text):
    file = tmp_path / "restante.toml"
    file.write_text(text)
    config, found = configuration.settings(file, {}, {})
    assert config is None
    assert found.level is Level.FAILURE


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("RESTANTE_LISTENS", "LISTEN"),
        ("RESTANTE_ADMIN_KEYS", "ADMIN_KEY"),
        ("RESTANTE_GRPC_LISTENER", "GRPC_LISTEN"),
    ],
)
def test_a_variable_that_was_meant_for_a_setting(variable, meant):
    found = configuration.variables(case({variable: "x"}))
    assert found is not None
    assert found.level is Level.WARNING
    assert variable in found.what
    assert f"RESTANTE_{meant}" in found.advice


@pytest.mark.parametrize(
    "variable", ["RESTANTE_LISTEN", "RESTANTE_PORT", "RESTANTE_KEY", "LISTENS"]
)
def test_variables_that_are_well_or_another_program_s(variable):
    assert configuration.variables(case({variable: "x"})) is None


PG = "postgresql://u@h/d"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            configuration.waker_without_nodes,
            {"waker": "redis://h", "store": PG},
            {"waker": "redis://h"},
        ),
        (
            configuration.keys_of_many_nodes,
            {"store": PG, "secrets_key_file": Path("k"), "ledger_key_file": Path("l")},
            {"store": PG, "secrets_key_file": Path("k")},
        ),
        (
            configuration.keys_of_many_nodes,
            {"store": PG, "secrets_key_file": Path("k"), "ledger_key_file": Path("l")},
            {"store": PG, "ledger_key_file": Path("l")},
        ),
        (
            configuration.admin_listener,
            {"admin_listen": "10.0.0.7:7071"},
            {"admin_listen": "0.0.0.0:1"},
        ),
        (
            configuration.admin_listener,
            {"admin_listen": "localhost:1"},
            {"admin_listen": "9.9.9.9:1"},
        ),
        (configuration.plain_listener, {"listen": "127.0.0.1:1"}, {"listen": "0.0.0.0:1"}),
        (
            configuration.plain_listener,
            {"listen": "0.0.0.0:1", "trusted_proxies": "10.0.0.1"},
            {"listen": "192.0.2.1:1"},
        ),
    ],
)
def test_settings_that_contradict_one_another(check, good, bad):
    assert check(case(**good)) is None
    found = check(case(**bad))
    assert found is not None
    assert found.level is Level.WARNING
    assert found.advice


@pytest.mark.parametrize(
    ("limit", "level"),
    [(-1, Level.OK), (20_000, Level.OK), (4_095, Level.WARNING), (1_024, Level.WARNING)],
)
def test_open_files(limit, level):
    assert machine.judge_open_files(limit, 1_000).level is level


def test_one_client_s_connections_count_too():
    found = machine.judge_open_files(20_000, 50_000)
    assert found.level is Level.WARNING
    assert "connections_per_principal" in found.advice


def test_packages_that_the_settings_ask_for(monkeypatch):
    asked = case(store=PG, waker="rediss://h", grpc_listen="127.0.0.1:1")
    assert machine.extras(asked) is None
    monkeypatch.setattr(machine, "installed", lambda module: False)
    found = machine.extras(asked)
    assert found is not None
    assert found.level is Level.FAILURE
    assert "restante[postgres,redis,grpc]" in found.advice
    assert machine.extras(case()) is None


async def test_every_check_is_carried_out_and_what_finds_nothing_is_left_out():
    async def late(subject):
        return warning(subject, "b", "c")

    findings = await carry_out((lambda subject: ok(subject, "a"), lambda _: None, late), "x")
    assert findings == [ok("x", "a"), warning("x", "b", "c")]
    assert worst([]) is Level.OK
    assert worst(findings) is Level.WARNING
    assert worst([failure("x", "y", "z"), *findings]) is Level.FAILURE
    assert [level.exit_code for level in Level] == [0, 1, 2]
