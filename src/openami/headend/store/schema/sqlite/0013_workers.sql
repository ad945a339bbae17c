-- Several head-ends sharing one broker's feeders (decision 0073). Times are milliseconds since 1970 in UTC, for
-- people: nothing is judged by them. In this engine they stay empty: one file has one head-end.
CREATE TABLE worker (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    beat       INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    beat_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each slice, made once; 0 is the rest. The term grows with every holder.
CREATE TABLE slice (
    number INTEGER PRIMARY KEY,
    holder TEXT,
    term   INTEGER NOT NULL,
    since  INTEGER NOT NULL
) STRICT;

-- Since when a slice's session hears a feeder, and since when the rest leaves it to that slice.
CREATE TABLE slice_feeder (
    feeder_id     TEXT PRIMARY KEY,
    slice         INTEGER NOT NULL,
    subscribed_at INTEGER NOT NULL,
    handed_at     INTEGER
) STRICT, WITHOUT ROWID;
