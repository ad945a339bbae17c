-- Who may use the console and the API (decision 0036). Times are milliseconds since 1970 in UTC; lists are JSON.
-- No secret is here but the second factor's, which both sides must have: of the others there is only a digest.

CREATE TABLE account (
    name         TEXT PRIMARY KEY,
    role         TEXT NOT NULL,
    feeders      TEXT,
    password     TEXT,
    language     TEXT,
    totp_secret  TEXT,
    totp_pending TEXT,
    totp_step    INTEGER NOT NULL,
    recovery     TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    disabled_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_in (
    digest     TEXT PRIMARY KEY,
    user_name  TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    proved_at  INTEGER NOT NULL,
    address    TEXT NOT NULL,
    agent      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_by_user ON sign_in (user_name);

CREATE TABLE api_token (
    id         TEXT PRIMARY KEY,
    digest     TEXT NOT NULL UNIQUE,
    label      TEXT NOT NULL,
    role       TEXT NOT NULL,
    feeders    TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    revoked_at INTEGER,
    relays     INTEGER NOT NULL  -- 1: made to order relays
) STRICT, WITHOUT ROWID;

CREATE TABLE first_link (
    digest     TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    user_name  TEXT,
    made_at    INTEGER NOT NULL,
    made_by    TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT, WITHOUT ROWID;

-- Attempts at an account from an address since the last that succeeded.
CREATE TABLE sign_in_attempt (
    user_name TEXT NOT NULL,
    address   TEXT NOT NULL,
    count     INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    PRIMARY KEY (user_name, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_attempt_by_time ON sign_in_attempt (last_at);
