-- What was recorded on each UTC day, meter by meter, until the day's statement is made (decision 0032).

-- digest: 32 bytes, big-endian. told: JSON, each register's measured time that was counted last.
CREATE TABLE day_account (
    day         TEXT NOT NULL,
    meter       TEXT NOT NULL,
    readings    INTEGER NOT NULL DEFAULT 0,
    digest      BLOB NOT NULL DEFAULT (zeroblob(32)),
    thinned     INTEGER NOT NULL DEFAULT 0,  -- envelopes
    first_ms    INTEGER,
    first_value,
    last_ms     INTEGER,
    last_value,
    told        TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (day, meter)
) WITHOUT ROWID;

-- One row. What is numbered up to accounted_seq is counted. Up to the day stated_until every day has its
-- statement or will never have one; NULL before the first look at a clock that is trusted. Of the day after it
-- parts_done of parts are made.
CREATE TABLE day_progress (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    accounted_seq INTEGER NOT NULL,
    stated_until  TEXT,
    parts         INTEGER NOT NULL DEFAULT 0,
    parts_done    INTEGER NOT NULL DEFAULT 0
);
INSERT INTO day_progress (id, accounted_seq) SELECT 1, last_seq FROM outbox_progress;
