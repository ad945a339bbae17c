-- Sessions, commands, keyrings and the audit log (decision 0021). Times are milliseconds since 1970 in UTC.
-- due_at: when the head-end has to look at a row next; NULL for one that rests.

CREATE TABLE keyring (
    feeder_id  TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    version    INTEGER NOT NULL,
    document   BLOB NOT NULL,
    added_at   INTEGER NOT NULL,
    added_by   TEXT NOT NULL,
    due_at     INTEGER,
    PRIMARY KEY (feeder_id, gateway_id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX keyring_due ON keyring (due_at) WHERE due_at IS NOT NULL;

-- Which gateway was sent which keyring, and which it accepted: how fast a revocation came into force.
CREATE TABLE delivery (
    feeder_id   TEXT NOT NULL,
    gateway_id  TEXT NOT NULL,
    version     INTEGER NOT NULL,
    offers      INTEGER NOT NULL,
    due_at      INTEGER,
    accepted_at INTEGER,
    PRIMARY KEY (feeder_id, gateway_id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE session (
    id           TEXT PRIMARY KEY,
    feeder_id    TEXT NOT NULL,
    gateway_id   TEXT NOT NULL,
    meters       TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    reason       TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    valid_to     INTEGER NOT NULL,
    valid_from   INTEGER,
    state        TEXT NOT NULL,
    document     BLOB,
    digest       TEXT,
    nonce        TEXT,
    nonce_at     INTEGER,
    nonces_heard INTEGER NOT NULL,
    offers       INTEGER NOT NULL,
    offered_at   INTEGER,
    renewed_by   TEXT,
    close_reason TEXT,
    code         TEXT,
    ended_at     INTEGER,
    due_at       INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_gateway ON session (feeder_id, gateway_id, ended_at);
CREATE INDEX session_due ON session (due_at) WHERE due_at IS NOT NULL;

-- Every nonce a session ever had: none becomes current twice.
CREATE TABLE session_nonce (
    session_id TEXT NOT NULL,
    nonce      TEXT NOT NULL,
    PRIMARY KEY (session_id, nonce)
) STRICT, WITHOUT ROWID;

CREATE TABLE command (
    id              TEXT PRIMARY KEY,
    idempotency_key TEXT UNIQUE,
    feeder_id       TEXT NOT NULL,
    gateway_id      TEXT NOT NULL,
    meter_serial    TEXT NOT NULL,
    action          TEXT NOT NULL,
    args            TEXT NOT NULL,
    trade_id        TEXT,
    requested_by    TEXT NOT NULL,
    reason          TEXT NOT NULL,
    requested_at    INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    wanted_session  TEXT,
    state           TEXT NOT NULL,
    session_id      TEXT,
    seq             INTEGER,
    nonce           TEXT,
    digest          TEXT,
    document        BLOB,
    signed_at       INTEGER,
    signings        INTEGER NOT NULL,
    missing         TEXT NOT NULL,
    sent_at         INTEGER,
    stale_nonce     TEXT,
    ended_at        INTEGER,
    code            TEXT,
    report          BLOB,
    resolved_as     TEXT,
    resolved_by     TEXT,
    resolved_at     INTEGER,
    due_at          INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX command_by_meter ON command (feeder_id, meter_serial, requested_at);
CREATE INDEX command_by_time ON command (requested_at);
CREATE INDEX command_by_trade ON command (trade_id) WHERE trade_id IS NOT NULL;
CREATE INDEX command_due ON command (due_at) WHERE due_at IS NOT NULL;

-- Every document that was ever signed for a command, by what identifies it at the gateway.
CREATE TABLE signing (
    digest       TEXT PRIMARY KEY,
    command_id   TEXT NOT NULL,
    session_id   TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    signed_at    INTEGER NOT NULL,
    action       TEXT NOT NULL,
    UNIQUE (session_id, meter_serial, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX signing_by_time ON signing (action, signed_at);

CREATE TABLE approval (
    command_id TEXT NOT NULL,
    digest     TEXT NOT NULL,
    kid        TEXT NOT NULL,
    act        TEXT NOT NULL,
    who        TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (command_id, digest, kid)
) STRICT, WITHOUT ROWID;

-- Append-only: the triggers stop a slip of the hand, the hashes show what was meant.
CREATE TABLE audit (
    number     INTEGER PRIMARY KEY,
    at         TEXT NOT NULL,
    who        TEXT NOT NULL,
    what       TEXT NOT NULL,
    why        TEXT NOT NULL,
    result     TEXT NOT NULL,
    session_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    digest     TEXT NOT NULL,
    previous   TEXT NOT NULL,
    hash       TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_command ON audit (command_id) WHERE command_id <> '';
CREATE INDEX audit_by_session ON audit (session_id) WHERE session_id <> '';
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;

-- One row: where the log ends. Whoever changes anything above takes it first, so changes are in turn.
CREATE TABLE audit_end (
    number INTEGER NOT NULL,
    hash   TEXT NOT NULL
) STRICT;
INSERT INTO audit_end VALUES (0, '0000000000000000000000000000000000000000000000000000000000000000');
