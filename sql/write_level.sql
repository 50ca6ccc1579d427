--
-- tcs.write_level on a server without standbys: what is set for a commit and
-- put back after it, what is refused, what is counted.
--
\set SHOW_CONTEXT never
CREATE TABLE w (v int);
CREATE SEQUENCE numbers;
SELECT tcs.stat_writes_reset();

-- What is in force when a transaction commits is what matters; what the commit
-- itself is at shows in what is counted.
CREATE VIEW counted AS
SELECT write_level, commits, waited, cancelled_waits, refused
  FROM tcs.stat_writes WHERE commits > 0 OR cancelled_waits > 0 OR refused > 0;

SHOW tcs.write_level;
INSERT INTO w VALUES (1);
SELECT * FROM counted;
SET tcs.write_level = eventual;
INSERT INTO w VALUES (2);
SET tcs.write_level = session;
INSERT INTO w VALUES (3);
SHOW synchronous_commit;
SELECT * FROM counted;
SET tcs.write_level = linearizable;
RESET tcs.write_level;

-- Refused, and nothing of it is there.
SET tcs.write_level = quorum;
INSERT INTO w VALUES (4);
\echo :LAST_ERROR_SQLSTATE
SET tcs.write_level = strong;
INSERT INTO w VALUES (5);
BEGIN;
INSERT INTO w VALUES (6);
CREATE TABLE refused ();
SHOW synchronous_commit;
COMMIT;
SHOW synchronous_commit;
SELECT * FROM w WHERE v >= 4;
SELECT to_regclass('refused');
COPY w FROM STDIN;
7
\.
CREATE TABLE refused ();
DROP TABLE w;
TRUNCATE w;
SELECT nextval('numbers');
SELECT v FROM w WHERE v > 2;

-- What writes nothing that is kept is not.
SELECT v FROM w ORDER BY v;
UPDATE w SET v = 0 WHERE false;
BEGIN;
SELECT count(*) FROM w;
COMMIT;
BEGIN;
INSERT INTO w VALUES (8);
ROLLBACK;
NOTIFY somebody;
SELECT pg_notify('somebody', '');
SELECT * FROM counted;

-- A temporary table is written to as any other.
SET tcs.write_level = session;
CREATE TEMP TABLE temporary (v int);
SET tcs.write_level = strong;
INSERT INTO temporary VALUES (1);
SELECT count(*) FROM temporary;

-- The transaction's own, and what a savepoint takes back.
RESET tcs.write_level;
SELECT tcs.stat_writes_reset();
BEGIN;
INSERT INTO w VALUES (10);
SET LOCAL tcs.write_level = eventual;
COMMIT;
BEGIN;
INSERT INTO w VALUES (11);
SAVEPOINT s;
SET LOCAL tcs.write_level = strong;
ROLLBACK TO s;
COMMIT;
BEGIN;
SAVEPOINT s;
INSERT INTO w VALUES (12);
SET LOCAL tcs.write_level = session;
RELEASE s;
COMMIT;
SELECT * FROM counted;
SHOW tcs.write_level;

-- A function's own setting is over when the transaction commits.
CREATE FUNCTION adds(v int) RETURNS void LANGUAGE sql
SET tcs.write_level = strong
BEGIN ATOMIC INSERT INTO w VALUES (v); END;
SELECT adds(13);
CREATE FUNCTION adds_locally(v int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tcs.write_level', 'session', true);
	INSERT INTO w VALUES (v);
END $$;
SELECT adds_locally(14);
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL tcs.write_level = eventual;
	INSERT INTO w VALUES (15);
	COMMIT;
	INSERT INTO w VALUES (16);
	COMMIT;
	SET LOCAL tcs.write_level = quorum;
	INSERT INTO w VALUES (17);
	COMMIT;
END $$;
CALL commits();
CREATE FUNCTION deferred() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL tcs.write_level = strong;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON w DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.v = 18) EXECUTE FUNCTION deferred();
INSERT INTO w VALUES (18);
SELECT * FROM counted;
SELECT v FROM w WHERE v >= 10 ORDER BY v;

-- Together with synchronous_commit: put back, and the stronger of two that
-- the session has SET.
SET tcs.write_level = eventual;
SET synchronous_commit = remote_write;
BEGIN;
INSERT INTO w VALUES (20);
SET LOCAL synchronous_commit = off;
COMMIT;
SHOW synchronous_commit;
BEGIN;
INSERT INTO w VALUES (21);
SET synchronous_commit = local;
COMMIT;
SHOW synchronous_commit;
RESET synchronous_commit;
SHOW synchronous_commit;
BEGIN;
INSERT INTO w VALUES (22);
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO w VALUES ('x');
ROLLBACK;
SHOW synchronous_commit;
SHOW tcs.write_level;

-- Prepared transactions.
SELECT tcs.stat_writes_reset();
BEGIN;
INSERT INTO w VALUES (30);
PREPARE TRANSACTION 'one';
SET tcs.write_level = strong;
COMMIT PREPARED 'one';
BEGIN;
INSERT INTO w VALUES (31);
PREPARE TRANSACTION 'two';
SELECT gid FROM pg_prepared_xacts;
SET tcs.write_level = session;
COMMIT PREPARED 'none';
COMMIT PREPARED 'one';
BEGIN;
INSERT INTO w VALUES (32);
PREPARE TRANSACTION 'two';
SET tcs.write_level = strong;
ROLLBACK PREPARED 'two';
SHOW synchronous_commit;
SELECT * FROM counted;
SELECT v FROM w WHERE v >= 30;

-- Standing defaults.
RESET tcs.write_level;
CREATE ROLE writes_eventually;
GRANT INSERT ON w TO writes_eventually;
ALTER ROLE writes_eventually SET tcs.write_level = eventual;
ALTER ROLE writes_eventually SET tcs.write_level = none;
SELECT rolname, setconfig FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole
 WHERE rolname = 'writes_eventually';
SET ROLE writes_eventually;
SELECT tcs.stat_writes_reset();
SELECT count(*) FROM tcs.quorum;
RESET ROLE;
DROP OWNED BY writes_eventually;
DROP ROLE writes_eventually;

-- What each level gives here.
SELECT write_level, synchronous_commit, available, servers, servers_durable, servers_visible, servers_to_read FROM tcs.quorum;
SELECT write_level, survives, survives_detail FROM tcs.quorum;
SELECT write_level, available_detail, read_detail FROM tcs.quorum;

SELECT write_level, commits, waited, cancelled_waits, refused, stats_reset <= now() AS reset_before
  FROM tcs.stat_writes;
SELECT stats_reset AS before FROM tcs.stat_writes LIMIT 1 \gset
SELECT tcs.stat_writes_reset();
SELECT sum(commits) AS commits, sum(waited) AS waited, sum(cancelled_waits) AS cancelled,
	   sum(refused) AS refused, bool_and(stats_reset > :'before') AS later
  FROM tcs.stat_writes;
DROP VIEW counted;
DROP FUNCTION adds, adds_locally;
DROP PROCEDURE commits;
DROP TABLE w;
DROP SEQUENCE numbers;
DROP FUNCTION deferred;
