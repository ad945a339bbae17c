"""All groups of rules, for the party that is judged."""

from openami.conformance.judgement import Kind
from openami.conformance.rules.delivery import Delivery
from openami.conformance.rules.events import Events
from openami.conformance.rules.group import Group
from openami.conformance.rules.links import Links
from openami.conformance.rules.messages import Messages
from openami.conformance.rules.numbers import Numbers
from openami.conformance.rules.orders import Orders
from openami.conformance.rules.readings import Readings
from openami.conformance.rules.relays import Relays
from openami.conformance.rules.reports import Reports
from openami.conformance.rules.sessions import Sessions
from openami.conformance.rules.silences import Silences
from openami.profile import RegisterCatalogue


def groups(kind: Kind, catalogue: RegisterCatalogue) -> tuple[Group, ...]:
    """Return new groups, which have seen nothing yet."""
    both: tuple[Group, ...] = (
        Messages(kind, catalogue),
        Links(kind),
        Sessions(kind),
        Delivery(kind),
    )
    if kind == "headend":
        return (*both, Orders())
    return (*both, Readings(catalogue), Numbers(), Events(), Silences(), Relays(), Reports())
