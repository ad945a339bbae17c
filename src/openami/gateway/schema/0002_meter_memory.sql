-- What the gateway remembers of each meter: last known values, counters that went back, what was told.
-- One row for each meter, rewritten with every billing poll.
CREATE TABLE meter_memory (
    serial TEXT PRIMARY KEY,
    memory TEXT NOT NULL  -- JSON
) WITHOUT ROWID;
