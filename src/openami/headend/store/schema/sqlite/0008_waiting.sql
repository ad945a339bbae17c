-- What waits for somebody is counted for every page: it is found without reading what is done.

CREATE INDEX command_open ON command (feeder_id) WHERE ended_at IS NULL;
CREATE INDEX rejected_open ON rejected (id) WHERE status = 'open';
