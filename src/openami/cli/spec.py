"""``openami spec``: the contract, printed: topics, rules, registers, schemas."""

import json

import click
import msgspec

from openami import spec as contract
from openami.cli.report import Exit, fail, print_json, print_table
from openami.profile import Certainty, requirements, shipped_catalogue
from openami.profile.schema import schemas

_as_json = click.option("--json", "as_json", is_flag=True, help="One object a line.")


@click.group()
def spec() -> None:
    """Print the contract that gateways and head-end are held to."""


@spec.command()
@click.argument("name", required=False, metavar="[NAME]")
@_as_json
def schema(name: str | None, as_json: bool) -> None:
    """Print the JSON Schema NAME; without a name, list them."""
    files = schemas()
    if name is None:
        rows = [(each, str(json.loads(content)["title"])) for each, content in files.items()]
        if as_json:
            for each, title in rows:
                print_json({"name": each, "title": title})
        else:
            print_table(["NAME", "TITLE"], [list(row) for row in rows])
        return
    if name not in files:
        fail(f"there is no schema {name!r}", Exit.USAGE, f"choose of {', '.join(files)}")
    if as_json:
        print_json(json.loads(files[name]))
    else:
        click.echo(files[name], nl=False)


@spec.command()
@_as_json
def topics(as_json: bool) -> None:
    """Print the four topics, who publishes on them, and with which QoS; where the profile says."""
    profile = json.loads(contract.load("profile-v0.1.json"))
    layouts, qos = profile["mqtt"]["topics"], profile["mqtt"]["qos"]
    rows = [
        ("telemetry", "gateway", qos["telemetry"]),
        ("event", "gateway", qos["events"]),
        ("command", "head-end", qos["commands"]),
        ("session", None, None),
    ]
    if as_json:
        for kind, publisher, level in rows:
            print_json({"kind": kind, "topic": layouts[kind], "publisher": publisher, "qos": level})
        return
    print_table(
        ["KIND", "PUBLISHER", "QOS", "TOPIC"],
        [
            [kind, publisher or "-", "-" if level is None else str(level), layouts[kind]]
            for kind, publisher, level in rows
        ],
    )


@spec.command()
def openapi() -> None:
    """Print the OpenAPI document of the head-end's API; GET /api/v1/openapi.json answers with the same."""
    click.echo(contract.load("openapi.json"), nl=False)


@spec.command()
@click.argument("number", required=False, metavar="[NUMBER]")
@_as_json
def rules(number: str | None, as_json: bool) -> None:
    """Print the requirements, or the one of a NUMBER like OA-REG-002, with its remedy."""
    listed = requirements()
    if number is not None and number not in listed:
        fail(f"there is no requirement {number!r}", Exit.USAGE, "openami spec rules lists them")
    wanted = [listed[number]] if number is not None else list(listed.values())
    for rule in wanted:
        if as_json:
            print_json(msgspec.to_builtins(rule))
            continue
        codes = f" [{', '.join(rule.codes)}]" if rule.codes else ""
        click.echo(f"{rule.id}  {rule.text} ({rule.source}; judged: {rule.judged}){codes}")
        if number is not None:
            of = " and ".join("head-ends" if each == "headend" else "gateways" for each in rule.of)
            click.echo(f"  of {of}; {'judged' if rule.testable else 'not testable'}: {rule.how}")
            if rule.exercise:
                click.echo(f"  to exercise it: {rule.exercise}")
            click.echo(f"  remedy: {rule.remedy}")


@spec.command()
@click.option("--certainty", type=click.Choice([c.value for c in Certainty]), help="Only these.")
@_as_json
def registers(certainty: str | None, as_json: bool) -> None:
    """Print the register list."""
    wanted = [r for r in shipped_catalogue() if certainty in (None, r.certainty.value)]
    if as_json:
        for register in wanted:
            print_json(msgspec.to_builtins(register))
        return
    print_table(
        ["OBIS", "UNIT", "TYPE", "CERTAINTY", "REQUIRED", "INTERVAL", "NAME"],
        [
            [r.obis, r.unit, r.type or "-", r.certainty, str(r.required), r.interval, r.name]
            for r in wanted
        ],
    )
