-- Who may use the console and the API (decision 0036). Times are milliseconds since 1970 in UTC; lists are JSON.
-- No secret is here but the second factor's, which both sides must have: of the others there is only a digest.

CREATE TABLE account (
    name         text COLLATE "C" PRIMARY KEY,
    role         text COLLATE "C" NOT NULL,
    feeders      text COLLATE "C",
    password     text COLLATE "C",
    language     text COLLATE "C",
    totp_secret  text COLLATE "C",
    totp_pending text COLLATE "C",
    totp_step    bigint NOT NULL,
    recovery     text COLLATE "C" NOT NULL,
    created_at   bigint NOT NULL,
    created_by   text COLLATE "C" NOT NULL,
    disabled_at  bigint
);

CREATE TABLE sign_in (
    digest     text COLLATE "C" PRIMARY KEY,
    user_name  text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    proved_at  bigint NOT NULL,
    address    text COLLATE "C" NOT NULL,
    agent      text COLLATE "C" NOT NULL
);
CREATE INDEX sign_in_by_user ON sign_in (user_name);

CREATE TABLE api_token (
    id         text COLLATE "C" PRIMARY KEY,
    digest     text COLLATE "C" NOT NULL UNIQUE,
    label      text COLLATE "C" NOT NULL,
    role       text COLLATE "C" NOT NULL,
    feeders    text COLLATE "C",
    created_at bigint NOT NULL,
    created_by text COLLATE "C" NOT NULL,
    expires_at bigint NOT NULL,
    used_at    bigint,
    revoked_at bigint,
    relays     smallint NOT NULL  -- 1: made to order relays
);

CREATE TABLE first_link (
    digest     text COLLATE "C" PRIMARY KEY,
    kind       text COLLATE "C" NOT NULL,
    user_name  text COLLATE "C",
    made_at    bigint NOT NULL,
    made_by    text COLLATE "C" NOT NULL,
    expires_at bigint NOT NULL,
    used_at    bigint
);

-- Attempts at an account from an address since the last that succeeded.
CREATE TABLE sign_in_attempt (
    user_name text COLLATE "C" NOT NULL,
    address   text COLLATE "C" NOT NULL,
    count     bigint NOT NULL,
    last_at   bigint NOT NULL,
    PRIMARY KEY (user_name, address)
);
CREATE INDEX sign_in_attempt_by_time ON sign_in_attempt (last_at);
