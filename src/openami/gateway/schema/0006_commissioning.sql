-- Commissioning: what must outlive a power cut between the bench and the signed record (decision 0062).

-- One row. A PIN is kept as its salted digest, a sign-in as the digest of its secret; neither can be read back.
CREATE TABLE commissioning (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    hour_began_ms INTEGER,
    feeder_meter  TEXT,
    limits        TEXT NOT NULL DEFAULT '{}',  -- JSON: those that are not the shipped ones
    bench         TEXT,                        -- JSON
    pin_salt      BLOB,
    pin_sha256    BLOB,
    pin_issued_ms INTEGER,
    pin_tries     INTEGER NOT NULL DEFAULT 0,
    secret_sha256 BLOB,
    signed_in_ms  INTEGER,
    signed_in_by  TEXT NOT NULL DEFAULT ''
);
INSERT INTO commissioning (id) VALUES (1);

-- load_begun: JSON, the powers before a load was switched on. tick: JSON, how the meter was left.
CREATE TABLE commissioning_walk (
    meter      TEXT PRIMARY KEY,
    load_begun TEXT,
    tick       TEXT
) WITHOUT ROWID;

CREATE TABLE commissioning_deviation (
    rule      TEXT NOT NULL,
    about     TEXT NOT NULL,
    deviation TEXT NOT NULL,  -- JSON
    PRIMARY KEY (rule, about)
) WITHOUT ROWID;
