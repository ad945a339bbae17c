-- Energy by day, folded ahead from readings (decision 0039). Nothing here is original: all of it can be made anew.

-- A UTC day of a register that counts energy. first and last: the outermost sound registers, in Wh, and when,
-- in milliseconds of the day; NULL where none is sound. counted: Wh counted since the first one up to the
-- beginning of each quarter hour and up to the day's end, 97 values of two, four or eight bytes, little-endian; NULL
-- where nothing flowed. marks: how well each quarter is known, a byte each
-- (1 spread over a gap, 2 at least); NULL where all is measured. breaks: JSON.
CREATE TABLE energy_day (
    series   integer NOT NULL,
    day      integer NOT NULL,
    readings integer NOT NULL,
    suspect  integer NOT NULL,
    first_ms integer,
    first_wh bigint,
    last_ms  integer,
    last_wh  bigint,
    counted  bytea,
    marks    bytea,
    breaks   text,
    PRIMARY KEY (series, day)
);

-- A month of a whole feeder: SQLite goes through the key meter by meter, this engine would rather read everything.
CREATE INDEX energy_day_by_day ON energy_day (day);

-- Days that readings have touched since they were folded: written in the transaction of the readings.
CREATE TABLE energy_due (
    series integer NOT NULL,
    day    integer NOT NULL,
    PRIMARY KEY (series, day)
);

-- What is there already is folded by the first head-end that runs, in the background.
INSERT INTO energy_due (series, day)
SELECT DISTINCT r.series, ((r.bucket * 14400000::bigint + r.ms) / 86400000)::integer
FROM reading r JOIN series s ON s.id = r.series
WHERE (s.obis LIKE '%.8._' OR s.obis LIKE '1-%.8._*255') AND s.obis NOT LIKE '96.%';
