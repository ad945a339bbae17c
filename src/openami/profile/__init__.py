"""The wire contract as types: topics, envelope, registers, OBIS codes. Pure; bytes in, values out."""

from openami.profile.audit import FAULTS_KEPT_MAX, Audit, audit_envelope
from openami.profile.codec import decode_envelope
from openami.profile.errors import Code, ProfileError, one_line, pointer
from openami.profile.event import Event, EventSource, EventState, Severity
from openami.profile.identifiers import (
    ID_PATTERN,
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    check_gateway_name,
    check_id,
    is_id,
)
from openami.profile.judgement import (
    AHEAD_OF_CLOCK_MAX_S,
    OLDEST_TS,
    implausible,
    json_type,
    judge_clock,
    judge_register,
    judge_topic,
)
from openami.profile.obis import Obis
from openami.profile.reader import MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX
from openami.profile.registers import (
    CatalogueError,
    Certainty,
    Register,
    RegisterCatalogue,
    shipped_catalogue,
)
from openami.profile.requirements import Requirement, requirement_of, requirements
from openami.profile.telemetry import (
    SCHEMA_VERSION,
    Envelope,
    Quality,
    RegisterReading,
    Value,
)
from openami.profile.times import read_time, utc_text
from openami.profile.topics import (
    CommandTopic,
    EventTopic,
    SessionTopic,
    TelemetryTopic,
    Topic,
    parse_topic,
)

__all__ = [
    "AHEAD_OF_CLOCK_MAX_S",
    "FAULTS_KEPT_MAX",
    "ID_PATTERN",
    "MESSAGE_BYTES_MAX",
    "MESSAGE_DEPTH_MAX",
    "OLDEST_TS",
    "SCHEMA_VERSION",
    "Audit",
    "CatalogueError",
    "Certainty",
    "Code",
    "CommandTopic",
    "Envelope",
    "Event",
    "EventSource",
    "EventState",
    "EventTopic",
    "FeederId",
    "GatewayId",
    "MeterSerial",
    "Obis",
    "ProfileError",
    "Quality",
    "Register",
    "RegisterCatalogue",
    "RegisterReading",
    "Requirement",
    "SessionId",
    "SessionTopic",
    "Severity",
    "TelemetryTopic",
    "Topic",
    "Value",
    "audit_envelope",
    "check_gateway_name",
    "check_id",
    "decode_envelope",
    "implausible",
    "is_id",
    "json_type",
    "judge_clock",
    "judge_register",
    "judge_topic",
    "one_line",
    "parse_topic",
    "pointer",
    "read_time",
    "requirement_of",
    "requirements",
    "shipped_catalogue",
    "utc_text",
]
