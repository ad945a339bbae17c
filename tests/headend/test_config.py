"""The head-end's configuration: what is read, and how a fault in it is told."""

from pathlib import Path

import pytest
from tests.headend.village_keys import ROOTS, signer, write_key, write_roots

from openami.headend.config import (
    DEFAULT_CLIENT_ID,
    DEFAULT_STORE,
    ConfigError,
    HeadendConfig,
    read_catalogue,
    read_config,
)
from openami.headend.worker_life import LEASE_S
from openami.headend.worker_settings import WorkersSettings
from openami.profile import Obis


def written(folder: Path, text: str) -> Path:
    path = folder / "headend.toml"
    path.write_text(text)
    return path


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, ""))
    assert config == HeadendConfig()
    assert config.store == DEFAULT_STORE
    assert config.mqtt.client_id == DEFAULT_CLIENT_ID


def test_everything_can_be_said(tmp_path: Path) -> None:
    config = read_config(
        written(
            tmp_path,
            'store = "postgresql:///openami"\nregisters_file = "vmrs.json"\n'
            'broker_config_file = "/etc/mosquitto/mosquitto.conf"\n'
            '[mqtt]\nurl = "mqtts://broker.example"\nclient_id = "second"\n',
        )
    )
    assert config.store == "postgresql:///openami"
    assert config.registers_file == str(tmp_path / "vmrs.json"), "beside the file that names it"
    assert config.broker_config_file == "/etc/mosquitto/mosquitto.conf"
    assert (config.mqtt.url, config.mqtt.client_id) == ("mqtts://broker.example", "second")


def test_the_tls_files_lie_beside_the_configuration(tmp_path: Path) -> None:
    names = ("ca_file", "cert_file", "key_file")
    lines = [f'{name} = "{name}.pem"' for name in names]
    text = "\n".join(["[mqtt]", 'url = "mqtts://broker.example"', *lines])
    mqtt = read_config(written(tmp_path, text)).mqtt
    assert [getattr(mqtt, name) for name in names] == [
        str(tmp_path / f"{name}.pem") for name in names
    ]
    assert mqtt.password_file is None


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('\nstroe = "x"\n', 2, "unknown key stroe — did you mean store?"),
        ('\n[mqtt]\n\nurll = "x"\n', 4, "unknown key urll — did you mean url?"),
        ("zzz = 1\n", 1, "known are store, registers_file"),
        ("[zzz]\n", 1, "unknown key zzz"),
        ("store = 1\n", 1, "store: Expected `str`, got `int`"),
        ('[mqtt]\nkeepalive_s = "60"\n', 2, "mqtt.keepalive_s: Expected `int`, got `str`"),
        ("# a comment\nmqtt = 3\n", 2, "mqtt: Expected `object`, got `int`"),
    ],
)
def test_a_fault_names_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert says in str(error.value)


def test_a_fault_in_the_brokers_address_names_its_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, '[mqtt]\nurl = "http://x"\n')
    with pytest.raises(ConfigError, match="must begin with mqtt://"):
        read_config(path)


def test_what_is_not_toml_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_config(written(tmp_path, 'store = "a"\nstore = "b"\n'))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}/none.toml: No such file or directory$"):
        read_config(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml"):
        read_config(binary)


def test_a_register_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "vmrs.json"
    path.write_text('{"registers":[{"obis":"1.8.0","name":"n","unit":"Wh","certainty":"A"}]}')
    catalogue = HeadendConfig(registers_file=str(path)).catalogue()
    entry = catalogue.get(Obis.parse("1.8.0"))
    assert entry is not None
    assert entry.unit == "Wh"
    assert len(HeadendConfig().catalogue()) > len(catalogue)


def test_a_register_list_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "vmrs.json"
    path.write_text("[]")
    with pytest.raises(ConfigError, match=r"vmrs\.json: the register file is not a register list"):
        read_catalogue(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_catalogue(tmp_path / "none.json")


def signing(tmp_path: Path, key: Path, roots: Path, more: str = "") -> Path:
    """Write a configuration of a head-end that commands."""
    text = f'[signing]\nkey_file = "{key}"\nroots_file = "{roots}"\n{more}'
    return written(tmp_path, text)


def test_a_head_end_commands_with_the_key_it_is_given(tmp_path: Path) -> None:
    key = write_key(tmp_path / "keys" / "hes.pem", "hes-1")
    roots = write_roots(tmp_path / "keys" / "roots.json")
    config = read_config(signing(tmp_path, key, roots, "disconnects_per_hour_max = 0\n"))
    assert config.signing is not None
    assert config.signing.disconnects_per_hour_max == 0
    keys = config.keys()
    assert keys is not None
    found, roots_found = keys
    assert found.kid == signer("hes-1").kid
    assert set(roots_found.keys) == set(ROOTS.keys)


def test_without_a_key_it_commands_nothing(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "")).keys() is None


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = write_key(tmp_path / "keys" / "hes.pem", "hes-1")
    roots = write_roots(tmp_path / "keys" / "roots.json")
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 0600"):
        read_config(signing(tmp_path, key, roots)).keys()


def test_keys_that_are_not_there_are_named(tmp_path: Path) -> None:
    roots = write_roots(tmp_path / "keys" / "roots.json")
    with pytest.raises(ConfigError, match=r"none\.pem"):
        read_config(signing(tmp_path, tmp_path / "keys" / "none.pem", roots)).keys()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("disconnects_per_hours_max = 3\n", "did you mean disconnects_per_hour_max"),
        ("disconnects_per_hour_max = -1\n", "signing.disconnects_per_hour_max"),
    ],
)
def test_a_fault_in_the_signing_table_is_told(tmp_path: Path, more: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_config(signing(tmp_path, tmp_path / "k", tmp_path / "r", more))


# --- the web -------------------------------------------------------------------------------------


def test_the_web_s_files_are_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    text = '[web]\nlisten = "0.0.0.0:8443"\ncert_file = "web.pem"\nkey_file = "/etc/web.key"\n'
    config = read_config(written(tmp_path, text))
    listening = config.listening()
    assert listening is not None
    assert listening.cert_file == str(tmp_path / "web.pem")
    assert listening.key_file == "/etc/web.key"
    assert HeadendConfig().listening() is None


def test_a_web_that_is_not_safe_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, '[web]\nlisten = "0.0.0.0:80"\n'))
    with pytest.raises(ConfigError, match=r"\[web\] listen = '0.0.0.0:80'.*allow_http = true"):
        config.listening()
    with pytest.raises(ConfigError, match="did you mean allow_http"):
        read_config(written(tmp_path, "[web]\nallow_htp = true\n"))


PROXY = '[proxy_auth]\nheader = "X-User"\ntrusted = ["127.0.0.1/32"]\ngroups = {"*" = "viewer"}\n'


def test_a_proxy_is_believed_under_one_name_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs \[web\] public_url"):
        read_config(written(tmp_path, PROXY)).proxy_rules()
    web = '[web]\npublic_url = "https://ami.example"\n'
    assert read_config(written(tmp_path, web + PROXY)).proxy_rules() is not None
    wrong = PROXY.replace("viewer", "king")
    with pytest.raises(ConfigError, match="'king' is no role: give one of viewer, operator"):
        read_config(written(tmp_path, web + wrong)).proxy_rules()
    assert HeadendConfig().proxy_rules() is None


# --- several head-ends ---------------------------------------------------------------------------

SHARED = 'store = "postgresql:///openami"\n'


def test_several_head_ends_share_the_feeders_where_it_says_so(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, f'{SHARED}[workers]\nslices = 4\nname = "hes-a"\n'))
    assert config.workers == WorkersSettings(slices=4, name="hes-a", lease_s=LEASE_S)
    config.check_workers()
    read_config(written(tmp_path, "")).check_workers()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[workers]\n", "one SQLite file has one head-end.*migrate-store"),
        (f"{SHARED}[mqtt]\nsession_expiry_days = 0\n[workers]\n", "session_expiry_days is 0"),
        (
            f'{SHARED}[mqtt]\nurl = "mqtts://b"\ncert_file = "hes.pem"\n[workers]\n',
            r"a certificate for each slice.*\{session\}\.pem.*certify-slices",
        ),
        (f'{SHARED}[mqtt]\nclient_id = "{"x" * 250}"\n[workers]\n', "too long"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_what_to_do(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_config(written(tmp_path, text)).check_workers()


@pytest.mark.parametrize(
    ("line", "says"),
    [("slices = 0", "slices"), ("slices = 65", "slices"), ("lease_s = 1", "lease_s")],
)
def test_what_is_beyond_its_bounds_is_a_fault(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_config(written(tmp_path, f"{SHARED}[workers]\n{line}\n"))


def test_each_slice_has_a_session_and_may_have_a_certificate_of_its_own(tmp_path: Path) -> None:
    config = read_config(
        written(
            tmp_path,
            '[mqtt]\nurl = "mqtts://b"\nclient_id = "hes-1"\ncert_file = "{session}.pem"\n',
        )
    )
    assert [(each.client_id, each.cert_file) for each in map(config.session, (0, 3))] == [
        ("hes-1", str(tmp_path / "hes-1.pem")),
        ("hes-1-slice-3", str(tmp_path / "hes-1-slice-3.pem")),
    ]
