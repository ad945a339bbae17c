"""Everything a head-end keeps, on whatever engine."""

from openami.headend.store.account_ledger import AccountLedger
from openami.headend.store.alarm_ledger import AlarmLedger
from openami.headend.store.arrivals import ArrivalQueries
from openami.headend.store.asset_ledger import AssetLedger
from openami.headend.store.bulk_ledger import BulkLedger
from openami.headend.store.closed_ledger import ClosedLedger
from openami.headend.store.count_queries import CountQueries
from openami.headend.store.energy_ledger import EnergyLedger
from openami.headend.store.gap_ledger import GapLedger
from openami.headend.store.ledger import Ledger
from openami.headend.store.page_queries import Pages
from openami.headend.store.queries import Queries
from openami.headend.store.retention_ledger import RetentionLedger
from openami.headend.store.settle_ledger import RestoreLedger
from openami.headend.store.traffic import TrafficQueries
from openami.headend.store.waiting import WaitingQueries
from openami.headend.store.worker_ledger import WorkerLedger


class EveryLedger(
    Queries,
    Ledger,
    GapLedger,
    AlarmLedger,
    WaitingQueries,
    AssetLedger,
    AccountLedger,
    EnergyLedger,
    CountQueries,
    Pages,
    TrafficQueries,
    ArrivalQueries,
    BulkLedger,
    ClosedLedger,
    RestoreLedger,
    RetentionLedger,
    WorkerLedger,
):
    """What SQLite and PostgreSQL do alike; see the ports for what its methods promise."""
