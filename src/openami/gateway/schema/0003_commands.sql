-- Signed sessions and commands: what must outlive a power cut, so that nothing is done twice (decision 0021).
-- Nonces are not here, and never will be: that a card does not hold them is what makes a stolen or
-- restored card worthless.

CREATE TABLE command_keyring (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    version     INTEGER NOT NULL,
    document    BLOB NOT NULL,
    admitted_by TEXT NOT NULL  -- JSON: threshold and keys of the roots that were pinned when it was admitted
);

-- number: the order in which they came into their state; the oldest ended ones are forgotten first.
CREATE TABLE command_session (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL UNIQUE,
    state      TEXT NOT NULL CHECK (state IN ('active', 'rejected', 'expired', 'revoked')),
    document   BLOB  -- of an active one
);

-- A row is 'executing' from before the contactor moves until its report is stored beside it.
CREATE TABLE command_done (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    identity    TEXT NOT NULL UNIQUE,  -- SESSION/METER/SEQ, or ticket/ID: no id holds a slash
    session_id  TEXT,
    seq         INTEGER,
    ticket      TEXT,
    meter       TEXT NOT NULL,
    action      TEXT NOT NULL,
    digest      TEXT NOT NULL,
    not_after_s INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('executing', 'done')),
    report      BLOB
);
CREATE INDEX command_executing ON command_done (number) WHERE state = 'executing';

CREATE TABLE command_high_water (
    session_id TEXT NOT NULL,
    meter      TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (session_id, meter)
) WITHOUT ROWID;

CREATE TABLE command_trade (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    trade_id TEXT NOT NULL UNIQUE
);

-- When a relay was last ordered to move, in seconds this gateway has been powered.
CREATE TABLE command_movement (
    meter     TEXT PRIMARY KEY,
    powered_s REAL NOT NULL
) WITHOUT ROWID;

-- One row. lo_s: the latest second known to have passed. tokens: the disconnects left at tokens_powered_s;
-- NULL while none was ever ordered.
CREATE TABLE command_time (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    lo_s             INTEGER NOT NULL DEFAULT 0,
    powered_s        REAL NOT NULL DEFAULT 0,
    tokens           REAL,
    tokens_powered_s REAL
);
INSERT INTO command_time (id) VALUES (1);
