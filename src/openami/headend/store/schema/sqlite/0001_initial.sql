-- The head-end's store in SQLite (decision 0012). Read in order, never edited: a change is a new file.
-- Times are milliseconds since 1970 in UTC. Look at the data through the view `readings`.

PRAGMA application_id = 0x4F414845;  -- "OAHE"

CREATE TABLE unit (
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    text   TEXT NOT NULL
) STRICT;

-- A register of a meter, and the unit it was first told in. Rows are never deleted: programs remember
-- their numbers.
CREATE TABLE series (
    id           INTEGER PRIMARY KEY,
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    obis         TEXT NOT NULL,
    unit         INTEGER NOT NULL,
    UNIQUE (feeder_id, meter_serial, obis)
) STRICT;

-- bucket * 14400000 + ms is the measured time: a bucket is the four hours around its moment, and ms goes
-- from -7200000 to 7199999, which takes three bytes.
-- value: as told, text stays text; a column with affinity would turn "007" into 7.
-- flags: bits 0-1 quality (0 good, 1 suspect, 2 comms_lost), bits 2-3 JSON type (0 float, 1 int,
-- 2 bool, 3 text), from bit 4 the unit, 0 when it is the series' own. lag_ms: received minus measured.
CREATE TABLE reading (
    bucket INTEGER NOT NULL,
    series INTEGER NOT NULL,
    ms     INTEGER NOT NULL,
    value  ANY NOT NULL,
    flags  INTEGER NOT NULL,
    lag_ms INTEGER NOT NULL,
    PRIMARY KEY (bucket, series, ms)
) STRICT, WITHOUT ROWID;

-- Other values told for a reading that is already there; the first stays in force.
CREATE TABLE conflict (
    bucket INTEGER NOT NULL,
    series INTEGER NOT NULL,
    ms     INTEGER NOT NULL,
    digest BLOB NOT NULL,
    value  ANY NOT NULL,
    flags  INTEGER NOT NULL,
    lag_ms INTEGER NOT NULL,
    PRIMARY KEY (bucket, series, ms, digest)
) STRICT, WITHOUT ROWID;

-- The latest measured moment of a series, and the worst quality told of it.
CREATE TABLE latest (
    series  INTEGER PRIMARY KEY,
    bucket  INTEGER NOT NULL,
    ms      INTEGER NOT NULL,
    quality INTEGER NOT NULL
) STRICT;

CREATE TABLE meter (
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    gateway_id   TEXT NOT NULL,
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER NOT NULL,
    last_ts      INTEGER NOT NULL,
    good_ts      INTEGER,
    PRIMARY KEY (feeder_id, meter_serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE gateway (
    feeder_id  TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    last_seq   INTEGER,
    PRIMARY KEY (feeder_id, gateway_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id           INTEGER PRIMARY KEY,
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    gateway_id   TEXT NOT NULL,
    type         TEXT NOT NULL,
    state        TEXT NOT NULL,
    severity     TEXT NOT NULL,
    occurred_at  INTEGER NOT NULL,
    ts           INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    payload      BLOB NOT NULL,
    UNIQUE (feeder_id, meter_serial, event_id)
) STRICT;
CREATE INDEX event_by_ts ON event (ts);

CREATE TABLE finding (
    day          TEXT NOT NULL,
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    obis         TEXT NOT NULL,
    code         TEXT NOT NULL,
    count        INTEGER NOT NULL,
    detail       TEXT NOT NULL,
    last_seen    INTEGER NOT NULL,
    PRIMARY KEY (day, feeder_id, meter_serial, obis, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX finding_by_last_seen ON finding (last_seen);

CREATE TABLE rejected (
    id               INTEGER PRIMARY KEY,
    digest           BLOB NOT NULL UNIQUE,
    received_at      INTEGER NOT NULL,
    last_received_at INTEGER NOT NULL,
    topic            BLOB NOT NULL,
    payload          BLOB NOT NULL,
    bytes            INTEGER NOT NULL,
    code             TEXT NOT NULL,
    requirement      TEXT NOT NULL,
    path             TEXT NOT NULL,
    detail           TEXT NOT NULL,
    partial          INTEGER NOT NULL,
    status           TEXT NOT NULL DEFAULT 'open',
    count            INTEGER NOT NULL
) STRICT;
CREATE INDEX rejected_by_age ON rejected (last_received_at);

-- One row: everything counted since the store was made.
CREATE TABLE tally (
    messages          INTEGER NOT NULL DEFAULT 0,
    stored            INTEGER NOT NULL DEFAULT 0,
    duplicates        INTEGER NOT NULL DEFAULT 0,
    conflicts         INTEGER NOT NULL DEFAULT 0,
    rejected_messages INTEGER NOT NULL DEFAULT 0,
    rejected_items    INTEGER NOT NULL DEFAULT 0,
    events            INTEGER NOT NULL DEFAULT 0,
    rejects_pruned    INTEGER NOT NULL DEFAULT 0,
    rejected_bytes    INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO tally DEFAULT VALUES;

-- For people and their tools.
CREATE VIEW readings AS
SELECT s.feeder_id,
       s.meter_serial,
       s.obis,
       strftime('%Y-%m-%dT%H:%M:%fZ', (r.bucket * 14400000 + r.ms) / 1000.0, 'unixepoch') AS ts,
       r.value,
       u.text AS unit,
       CASE r.flags & 3 WHEN 0 THEN 'good' WHEN 1 THEN 'suspect' ELSE 'comms_lost' END AS quality,
       strftime('%Y-%m-%dT%H:%M:%fZ', (r.bucket * 14400000 + r.ms + r.lag_ms) / 1000.0, 'unixepoch')
           AS received_at
FROM reading r
JOIN series s ON s.id = r.series
JOIN unit u ON u.id = coalesce(nullif(r.flags >> 4, 0), s.unit);
