-- The head-end's store in PostgreSQL (decision 0012). Read in order, never edited: a change is a new file.
-- Times are milliseconds since 1970 in UTC. Look at the data through the view `readings`.
-- Names are compared byte by byte (COLLATE "C"), as in SQLite: the order is the same everywhere.

CREATE TABLE unit (
    id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    text   text NOT NULL
);

-- A register of a meter, and the unit it was first told in. Rows are never deleted: programs remember
-- their numbers.
CREATE TABLE series (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feeder_id    text COLLATE "C" NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    obis         text COLLATE "C" NOT NULL,
    unit         integer NOT NULL,
    UNIQUE (feeder_id, meter_serial, obis)
);

-- bucket * 14400000 + ms is the measured time: a bucket is the four hours around its moment, and ms goes
-- from -7200000 to 7199999, which takes three bytes.
-- number or text: the value as told. Whole numbers fit a double exactly, to 2^53.
-- flags: bits 0-1 quality (0 good, 1 suspect, 2 comms_lost), bits 2-3 JSON type (0 float, 1 int,
-- 2 bool, 3 text), from bit 4 the unit, 0 when it is the series' own. lag_ms: received minus measured.
-- The order of the columns leaves no padding between them.
CREATE TABLE reading (
    number double precision,
    lag_ms bigint NOT NULL,
    bucket integer NOT NULL,
    series integer NOT NULL,
    ms     integer NOT NULL,
    flags  integer NOT NULL,
    text   text,
    PRIMARY KEY (bucket, series, ms),
    CHECK (num_nonnulls(number, text) = 1)
);

-- Other values told for a reading that is already there; the first stays in force.
CREATE TABLE conflict (
    number double precision,
    lag_ms bigint NOT NULL,
    bucket integer NOT NULL,
    series integer NOT NULL,
    ms     integer NOT NULL,
    flags  integer NOT NULL,
    digest bytea NOT NULL,
    text   text,
    PRIMARY KEY (bucket, series, ms, digest),
    CHECK (num_nonnulls(number, text) = 1)
);

-- The latest measured moment of a series, and the worst quality told of it.
-- Half-filled pages: a row that is updated all the time finds room beside itself.
CREATE TABLE latest (
    series  integer PRIMARY KEY,
    bucket  integer NOT NULL,
    ms      integer NOT NULL,
    quality integer NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE meter (
    feeder_id    text COLLATE "C" NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    gateway_id   text COLLATE "C" NOT NULL,
    first_seen   bigint NOT NULL,
    last_seen    bigint NOT NULL,
    last_ts      bigint NOT NULL,
    good_ts      bigint,
    PRIMARY KEY (feeder_id, meter_serial)
) WITH (fillfactor = 50);

CREATE TABLE gateway (
    feeder_id  text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C" NOT NULL,
    first_seen bigint NOT NULL,
    last_seen  bigint NOT NULL,
    last_seq   bigint,
    PRIMARY KEY (feeder_id, gateway_id)
) WITH (fillfactor = 50);

CREATE TABLE event (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feeder_id    text COLLATE "C" NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    event_id     text COLLATE "C" NOT NULL,
    gateway_id   text COLLATE "C" NOT NULL,
    type         text NOT NULL,
    state        text NOT NULL,
    severity     text NOT NULL,
    occurred_at  bigint NOT NULL,
    ts           bigint NOT NULL,
    received_at  bigint NOT NULL,
    payload      bytea NOT NULL,
    UNIQUE (feeder_id, meter_serial, event_id)
);
CREATE INDEX event_by_ts ON event (ts);

CREATE TABLE finding (
    day          text COLLATE "C" NOT NULL,
    feeder_id    text COLLATE "C" NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    obis         text COLLATE "C" NOT NULL,
    code         text COLLATE "C" NOT NULL,
    count        bigint NOT NULL,
    detail       text NOT NULL,
    last_seen    bigint NOT NULL,
    PRIMARY KEY (day, feeder_id, meter_serial, obis, code)
);
CREATE INDEX finding_by_last_seen ON finding (last_seen);

CREATE TABLE rejected (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest           bytea NOT NULL UNIQUE,
    received_at      bigint NOT NULL,
    last_received_at bigint NOT NULL,
    topic            bytea NOT NULL,
    payload          bytea NOT NULL,
    bytes            bigint NOT NULL,
    code             text NOT NULL,
    requirement      text NOT NULL,
    path             text NOT NULL,
    detail           text NOT NULL,
    partial          integer NOT NULL,
    status           text COLLATE "C" NOT NULL DEFAULT 'open',
    count            bigint NOT NULL
);
CREATE INDEX rejected_by_age ON rejected (last_received_at);

-- One row: everything counted since the store was made.
CREATE TABLE tally (
    messages          bigint NOT NULL DEFAULT 0,
    stored            bigint NOT NULL DEFAULT 0,
    duplicates        bigint NOT NULL DEFAULT 0,
    conflicts         bigint NOT NULL DEFAULT 0,
    rejected_messages bigint NOT NULL DEFAULT 0,
    rejected_items    bigint NOT NULL DEFAULT 0,
    events            bigint NOT NULL DEFAULT 0,
    rejects_pruned    bigint NOT NULL DEFAULT 0,
    rejected_bytes    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO tally DEFAULT VALUES;

-- For people and their tools.
CREATE VIEW readings AS
SELECT s.feeder_id,
       s.meter_serial,
       s.obis,
       to_timestamp((r.bucket * 14400000::bigint + r.ms) / 1000.0) AS ts,
       r.number,
       r.text,
       u.text AS unit,
       CASE r.flags & 3 WHEN 0 THEN 'good' WHEN 1 THEN 'suspect' ELSE 'comms_lost' END AS quality,
       to_timestamp((r.bucket * 14400000::bigint + r.ms + r.lag_ms) / 1000.0) AS received_at
FROM reading r
JOIN series s ON s.id = r.series
JOIN unit u ON u.id = coalesce(nullif(r.flags >> 4, 0), s.unit);
