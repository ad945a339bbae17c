"""The sheets of a report, made from a profile of traffic and a judgement (pure)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from openami.conformance.bandwidth import BandwidthSheet, bandwidth_sheet
from openami.conformance.coverage import CoverageSheet, coverage_sheet
from openami.conformance.gap_matrix import GapMatrix, gap_matrix
from openami.conformance.judgement import Judgement
from openami.conformance.missing import MissingSheet, missing_sheet
from openami.conformance.traffic import Traffic
from openami.profile import RegisterCatalogue


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """What the traffic cannot tell: what is paid, which interval is planned, what the meters are, and the
    register list, ours if it is None.

    ``meter_types`` says of meters by serial number, or of all by ``*``, which of ``METER_TYPES`` they are.
    """

    interval_s: int | None = None
    price_per_mb: Decimal | None = None
    currency: str = ""
    meter_types: Mapping[str, Collection[str]] = field(default_factory=dict)
    catalogue: RegisterCatalogue | None = None


class Sheets(msgspec.Struct, frozen=True, rename="camel"):
    """What stands beside the verdicts. All but the matrix are about a gateway's telemetry: None of a head-end."""

    gaps: GapMatrix
    coverage: CoverageSheet | None = None
    missing: MissingSheet | None = None
    bandwidth: BandwidthSheet | None = None


def sheets_of(
    judgement: Judgement, traffic: Traffic, options: SheetOptions | None = None
) -> Sheets:
    """Return the sheets."""
    if judgement.subject.kind == "headend":
        return Sheets(gaps=gap_matrix(judgement, None))
    chosen = options or SheetOptions()
    coverage = coverage_sheet(traffic, types=chosen.meter_types, catalogue=chosen.catalogue)
    return Sheets(
        gaps=gap_matrix(judgement, coverage),
        coverage=coverage,
        missing=missing_sheet(traffic),
        bandwidth=bandwidth_sheet(
            traffic,
            interval_s=chosen.interval_s,
            price_per_mb=chosen.price_per_mb,
            currency=chosen.currency,
        ),
    )
