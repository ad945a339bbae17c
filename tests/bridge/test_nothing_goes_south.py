"""The bridge has no way to send anything to the firmware: not by a setting, and not in its code."""

import ast
from pathlib import Path

import openami.bridge
from openami.bridge import config, firmware, north, south

SOURCE = Path(openami.bridge.__file__).parent


def calls(path: Path, name: str) -> list[int]:
    """Return the lines on which a method of this name is called or taken."""
    tree = ast.parse(path.read_text())
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == name
    ]


def test_only_the_way_north_publishes() -> None:
    publishing = {path.name for path in SOURCE.glob("*.py") if calls(path, "publish")}
    assert publishing == {Path(north.__file__).name}


def test_the_connection_south_is_asked_for_deliveries_and_handed_to_nobody() -> None:
    tree = ast.parse(Path(south.__file__).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "connection"
    }
    assert used == {"subscribe", "receive", "acknowledge"}
    handed = [
        argument
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Name) and argument.id == "connection"
    ]
    assert not handed


def test_no_setting_opens_a_way() -> None:
    names = {*config.BridgeConfig.__struct_fields__, *config.PoleTable.__struct_fields__}
    assert not {name for name in names if "command" in name or "cmd" in name}


def test_commands_of_the_firmware_are_known_only_to_be_left_out() -> None:
    assert firmware.parse_topic("openami/StreetPoleEMS_37EAB0/cmd") is not None
    said = [path.name for path in SOURCE.glob("*.py") if '"cmd"' in path.read_text()]
    assert said == [Path(firmware.__file__).name]
