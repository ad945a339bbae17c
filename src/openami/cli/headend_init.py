"""``openami headend init``: a village's authority, keys, first keyrings and configurations, in one go."""

from pathlib import Path

import click

from openami.cli.files import A_PATH
from openami.cli.report import Exit, fail, print_json, say
from openami.clock import SystemClock
from openami.headend.village import (
    DEFAULT_DIRECTORY,
    Village,
    VillageError,
    VillagePlan,
    make_village,
)
from openami.keyfiles import ROOTS_MAX, KeyFileError
from openami.mqtt.broker_rights import DEFAULT_PORT
from openami.pki.certificates import CertificateError
from openami.profile import is_id
from openami.sip.errors import SipError
from openami.sip.keyring import DISCONNECTS_PER_HOUR_MAX

directory_option = click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=A_PATH,
    envvar="OPENAMI_OPERATOR_DIR",
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="The operator's directory.",
)


@click.command()
@directory_option
@click.option("--feeder", "feeders", metavar="ID", multiple=True, help="A feeder; repeatable.")
@click.option(
    "--broker-host",
    "broker_names",
    metavar="NAME",
    multiple=True,
    help="A name or address gateways call the broker by; repeatable.  [default: localhost]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Its port.",
)
@click.option(
    "--roots",
    type=click.IntRange(1, ROOTS_MAX),
    default=1,
    show_default=True,
    help="How many root keys to make.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, ROOTS_MAX),
    default=1,
    show_default=True,
    help="How many of them have to sign a keyring.",
)
@click.option(
    "--disconnects-per-hour",
    type=click.IntRange(0, DISCONNECTS_PER_HOUR_MAX),
    default=2,
    show_default=True,
    help="How many households a gateway may cut off in an hour, whoever asks.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def init(
    directory: Path,
    feeders: tuple[str, ...],
    broker_names: tuple[str, ...],
    port: int,
    roots: int,
    threshold: int,
    disconnects_per_hour: int,
    as_json: bool,
) -> None:
    """Make a village: authority, broker and head-end certificates, signing keys, first keyrings.

    Nothing that exists is ever overwritten. Note the fingerprint on paper: it is how a gateway tells this
    village from another.
    """
    if threshold > roots:
        fail(f"{threshold} of {roots} roots cannot sign", Exit.USAGE, "raise --roots")
    for feeder_id in feeders:
        if not is_id(feeder_id):
            fail(f"{feeder_id!r} is not an id", Exit.USAGE, "use letters, digits, . _ -")
    plan = VillagePlan(
        feeders=tuple(dict.fromkeys(feeders)),
        broker_names=broker_names or ("localhost", "127.0.0.1"),
        port=port,
        roots=roots,
        threshold=threshold,
        disconnects_per_hour=disconnects_per_hour,
    )
    try:
        village = make_village(directory, plan, now=SystemClock().now())
        fingerprint = village.fingerprint()
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except (CertificateError, SipError) as error:
        fail(str(error), Exit.USAGE)
    if as_json:
        print_json({"directory": str(directory), "fingerprint": fingerprint})
    else:
        _tell(village, plan, fingerprint)


def _tell(village: Village, plan: VillagePlan, fingerprint: str) -> None:
    root_files = ", ".join(str(village.root_key_file(n + 1)) for n in range(plan.roots))
    click.echo(f"village fingerprint: {fingerprint}")
    say(
        f"""made {village.directory}. What to do next:
 1. Write the fingerprint on paper and keep it; gateways are enrolled by it.
 2. Carry the root keys away, to {"a stick" if plan.roots == 1 else "one stick each"} in a safe:
      {root_files}
    Whoever has {plan.threshold} of them decides who may cut a household off. Make a backup first.
 3. Copy {village.broker_directory} to the broker (docs/keys.md has the four commands) and start it.
 4. Start the head-end:  openami headend run -c {village.headend_config}
 5. For each gateway:    openami headend enroll-token --gateway FEEDER/GATEWAY --dir {village.directory}
                         openami headend enroll-serve --listen 0.0.0.0:8443 --dir {village.directory}"""
    )
    if not plan.feeders:
        say(
            f" 6. A keyring for each feeder: openami keyring new --feeder ID --dir {village.directory}"
        )
