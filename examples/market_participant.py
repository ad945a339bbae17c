"""A market participant signs a settlement it is shown, if its own book agrees.

    openami command send settlement DS1000-88421 --arg tradeId=t-17 …        the operator asks
    openami command show cmd-… --document > settlement.json                  and hands this file over
    python examples/market_participant.py settlement.json keyring.json roots.json market.key.pem > act.txt
    openami command approve cmd-… --act act.txt                              the act goes back

The book here is three lines of Python; yours is a database. What matters is that the terms come from it, and not
from the file.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from openami.clock import SystemClock
from openami.keyfiles import load_roots, load_signer
from openami.sip.canonical import read_document
from openami.sip.keyring import admit_keyring
from openami.sip.market import NotAgreed, Settlement, settlement_act

BOOK = {
    "t-17": Settlement(
        trade_id="t-17",
        feeder_id="feeder-north-paravur-01",
        meter_serial="DS1000-88421",
        energy_wh=12_400,
        amount_minor=9_300,
        currency="INR",
        seller="house-7",
        buyer="house-12",
    )
}


def main() -> int:
    """Print the act, or say why not."""
    settlement, keyring_file, roots_file, key_file = (Path(name) for name in sys.argv[1:5])
    payload = settlement.read_bytes()
    members = read_document(payload).members
    agreed = BOOK.get(members["command"]["args"]["tradeId"])
    if agreed is None:
        print("the book has no such trade", file=sys.stderr)
        return 1
    keyring = admit_keyring(
        read_document(keyring_file.read_bytes()),
        roots=load_roots(roots_file),
        in_force=0,
        feeder_id=members["feederId"],
        gateway_id=members["gatewayId"],
    )
    now: datetime = SystemClock().now().astimezone(UTC)
    try:
        print(
            settlement_act(payload, agreed, keyring=keyring, signer=load_signer(key_file), now=now)
        )
    except NotAgreed as error:
        print(f"not signed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
