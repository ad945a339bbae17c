-- 1: made to make and change accounts and tokens (decision 0051).
ALTER TABLE api_token ADD COLUMN accounts smallint NOT NULL DEFAULT 0;
