-- Sessions, commands, keyrings and the audit log (decision 0021). Times are milliseconds since 1970 in UTC.
-- due_at: when the head-end has to look at a row next; NULL for one that rests.

CREATE TABLE keyring (
    feeder_id  text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    document   bytea NOT NULL,
    added_at   bigint NOT NULL,
    added_by   text NOT NULL,
    due_at     bigint,
    PRIMARY KEY (feeder_id, gateway_id, version)
);
CREATE INDEX keyring_due ON keyring (due_at) WHERE due_at IS NOT NULL;

-- Which gateway was sent which keyring, and which it accepted: how fast a revocation came into force.
CREATE TABLE delivery (
    feeder_id   text COLLATE "C" NOT NULL,
    gateway_id  text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    offers      bigint NOT NULL,
    due_at      bigint,
    accepted_at bigint,
    PRIMARY KEY (feeder_id, gateway_id, version)
);
CREATE INDEX delivery_due ON delivery (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE session (
    id           text COLLATE "C" PRIMARY KEY,
    feeder_id    text COLLATE "C" NOT NULL,
    gateway_id   text COLLATE "C" NOT NULL,
    meters       text NOT NULL,
    requested_by text NOT NULL,
    reason       text NOT NULL,
    requested_at bigint NOT NULL,
    valid_to     bigint NOT NULL,
    valid_from   bigint,
    state        text NOT NULL,
    document     bytea,
    digest       text COLLATE "C",
    nonce        text COLLATE "C",
    nonce_at     bigint,
    nonces_heard bigint NOT NULL,
    offers       bigint NOT NULL,
    offered_at   bigint,
    renewed_by   text,
    close_reason text,
    code         text,
    ended_at     bigint,
    due_at       bigint
);
CREATE INDEX session_by_gateway ON session (feeder_id, gateway_id, ended_at);
CREATE INDEX session_due ON session (due_at) WHERE due_at IS NOT NULL;

-- Every nonce a session ever had: none becomes current twice.
CREATE TABLE session_nonce (
    session_id text COLLATE "C" NOT NULL,
    nonce      text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_id, nonce)
);

CREATE TABLE command (
    id              text COLLATE "C" PRIMARY KEY,
    idempotency_key text UNIQUE,
    feeder_id       text COLLATE "C" NOT NULL,
    gateway_id      text COLLATE "C" NOT NULL,
    meter_serial    text COLLATE "C" NOT NULL,
    action          text NOT NULL,
    args            text NOT NULL,
    trade_id        text COLLATE "C",
    requested_by    text NOT NULL,
    reason          text NOT NULL,
    requested_at    bigint NOT NULL,
    not_after       bigint NOT NULL,
    wanted_session  text,
    state           text NOT NULL,
    session_id      text COLLATE "C",
    seq             bigint,
    nonce           text COLLATE "C",
    digest          text COLLATE "C",
    document        bytea,
    signed_at       bigint,
    signings        bigint NOT NULL,
    missing         text NOT NULL,
    sent_at         bigint,
    stale_nonce     text COLLATE "C",
    ended_at        bigint,
    code            text,
    report          bytea,
    resolved_as     text,
    resolved_by     text,
    resolved_at     bigint,
    due_at          bigint
);
CREATE INDEX command_by_meter ON command (feeder_id, meter_serial, requested_at);
CREATE INDEX command_by_time ON command (requested_at);
CREATE INDEX command_by_trade ON command (trade_id) WHERE trade_id IS NOT NULL;
CREATE INDEX command_due ON command (due_at) WHERE due_at IS NOT NULL;

-- Every document that was ever signed for a command, by what identifies it at the gateway.
CREATE TABLE signing (
    digest       text COLLATE "C" PRIMARY KEY,
    command_id   text COLLATE "C" NOT NULL,
    session_id   text COLLATE "C" NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    signed_at    bigint NOT NULL,
    action       text NOT NULL,
    UNIQUE (session_id, meter_serial, seq)
);
CREATE INDEX signing_by_time ON signing (action, signed_at);

CREATE TABLE approval (
    command_id text COLLATE "C" NOT NULL,
    digest     text COLLATE "C" NOT NULL,
    kid        text COLLATE "C" NOT NULL,
    act        text NOT NULL,
    who        text NOT NULL,
    at         bigint NOT NULL,
    PRIMARY KEY (command_id, digest, kid)
);

-- Append-only: the triggers stop a slip of the hand, the hashes show what was meant.
CREATE TABLE audit (
    number     bigint PRIMARY KEY,
    at         text NOT NULL,
    who        text NOT NULL,
    what       text NOT NULL,
    why        text NOT NULL,
    result     text NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    digest     text COLLATE "C" NOT NULL,
    previous   text NOT NULL,
    hash       text NOT NULL
);
CREATE INDEX audit_by_command ON audit (command_id) WHERE command_id <> '';
CREATE INDEX audit_by_session ON audit (session_id) WHERE session_id <> '';
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

-- One row: where the log ends. Whoever changes anything above takes it first, so changes are in turn.
CREATE TABLE audit_end (
    number bigint NOT NULL,
    hash   text NOT NULL
);
INSERT INTO audit_end VALUES (0, '0000000000000000000000000000000000000000000000000000000000000000');
