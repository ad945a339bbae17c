-- The gateway's database, version 1. Files of this folder are applied in order and never edited.
-- States, kinds and groups are words, so that a person can read the file with any SQLite shell.

PRAGMA application_id = 0x4f414757;  -- "OAGW": a stranger's file is not taken for ours

-- A topic is some eighty bytes and repeats with every envelope; there are two for each meter.
CREATE TABLE outbox_topic (
    id    INTEGER PRIMARY KEY,
    topic TEXT NOT NULL UNIQUE
);

-- Narrow on purpose: an acknowledgement rewrites a page of this table, which holds eighty entries,
-- and not a page of payloads, which holds six.
CREATE TABLE outbox_entry (
    seq        INTEGER PRIMARY KEY,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'held', 'refused')),
    kind       TEXT NOT NULL CHECK (kind IN ('event', 'telemetry')),
    poll_group TEXT,
    topic_id   INTEGER NOT NULL,
    ts_ms      INTEGER NOT NULL,  -- measured time
    since_ms   INTEGER NOT NULL,  -- when it came into its state
    bytes      INTEGER NOT NULL   -- what it is charged with: payload and overhead
);

-- 'event' sorts before 'telemetry': the index is the order in which the uplink takes them.
CREATE INDEX outbox_pending ON outbox_entry (kind, seq) WHERE state = 'pending';

CREATE TABLE outbox_payload (
    seq     INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
);

-- Entries of an untrusted clock: which boot, and at which second of it, they were measured.
CREATE TABLE outbox_held (
    seq        INTEGER PRIMARY KEY,
    boot_id    TEXT NOT NULL,
    boottime_s REAL NOT NULL
);

-- Running totals, kept by the triggers below: no code path can forget them.
CREATE TABLE outbox_total (
    state   TEXT NOT NULL,
    kind    TEXT NOT NULL,
    entries INTEGER NOT NULL DEFAULT 0,
    bytes   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (state, kind)
) WITHOUT ROWID;

INSERT INTO outbox_total (state, kind)
SELECT s.column1, k.column1
FROM (VALUES ('pending'), ('sent'), ('held'), ('refused')) AS s,
     (VALUES ('event'), ('telemetry')) AS k;

CREATE TRIGGER outbox_entry_inserted AFTER INSERT ON outbox_entry BEGIN
    UPDATE outbox_total SET entries = entries + 1, bytes = bytes + new.bytes
    WHERE state = new.state AND kind = new.kind;
END;

CREATE TRIGGER outbox_entry_deleted AFTER DELETE ON outbox_entry BEGIN
    DELETE FROM outbox_payload WHERE seq = old.seq;
    DELETE FROM outbox_held WHERE seq = old.seq;
    UPDATE outbox_total SET entries = entries - 1, bytes = bytes - old.bytes
    WHERE state = old.state AND kind = old.kind;
END;

CREATE TRIGGER outbox_entry_updated AFTER UPDATE OF state, bytes ON outbox_entry BEGIN
    UPDATE outbox_total SET entries = entries - 1, bytes = bytes - old.bytes
    WHERE state = old.state AND kind = old.kind;
    UPDATE outbox_total SET entries = entries + 1, bytes = bytes + new.bytes
    WHERE state = new.state AND kind = new.kind;
END;

-- One row. last_seq outlives the entries, so a number is never given twice.
CREATE TABLE outbox_progress (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    last_seq        INTEGER NOT NULL DEFAULT 0,
    last_append_ms  INTEGER,
    recent_bytes    REAL NOT NULL DEFAULT 0,  -- weighted sum of what was appended lately
    observed_s      REAL NOT NULL DEFAULT 0,  -- over how long
    thinned_told_ms INTEGER                   -- when the last telemetry_thinned event was written
);
INSERT INTO outbox_progress (id) VALUES (1);

-- What was deleted before its time, by stage, since the file was made; and since the last event.
CREATE TABLE outbox_thinned (
    stage        TEXT PRIMARY KEY,
    entries      INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    oldest_ts_ms INTEGER NOT NULL,
    newest_ts_ms INTEGER NOT NULL,
    last_ms      INTEGER NOT NULL,
    untold       INTEGER NOT NULL,
    untold_oldest_ts_ms INTEGER,
    untold_newest_ts_ms INTEGER
) WITHOUT ROWID;

-- One row: the latest time a time source vouched for; a clock behind it has been reset.
CREATE TABLE timekeeping (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    floor_ms INTEGER NOT NULL DEFAULT 0
);
INSERT INTO timekeeping (id) VALUES (1);
