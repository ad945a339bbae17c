-- What should have come and has not (decisions 0030, 0031). Times are milliseconds since 1970 in UTC.

-- Which of a gateway's numbers have come, as openami.headend.seq_gaps writes it (JSON).
CREATE TABLE numbering (
    feeder_id  TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    state      BLOB NOT NULL,
    PRIMARY KEY (feeder_id, gateway_id)
) STRICT, WITHOUT ROWID;

-- A gap and its life. With epoch 0, first and last are measured times; otherwise numbers.
CREATE TABLE gap (
    feeder_id    TEXT NOT NULL,
    gateway_id   TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    missing      INTEGER NOT NULL,
    measured_from INTEGER,
    measured_to  INTEGER,
    state        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    noticed_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    asks         INTEGER NOT NULL,
    answers      INTEGER NOT NULL,
    command_id   TEXT,
    answered_at  INTEGER,
    ask_at       INTEGER,
    ended_at     INTEGER,
    PRIMARY KEY (feeder_id, gateway_id, epoch, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX gap_by_end ON gap (ended_at);

-- How often the meters of a feeder report, as the head-end is configured; others are learnt from.
CREATE TABLE expected_interval (
    feeder_id  TEXT PRIMARY KEY,
    interval_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
