--
-- Counters of reads, on a primary.
--
\set SHOW_CONTEXT never
CREATE TABLE t (v int);
INSERT INTO t VALUES (1);
SELECT tcs.stat_reads_reset();

-- A row for each level from the start; what only looks is not counted.
SELECT level, reads, served_at_once, waited, timed_out, downgraded, refused
  FROM tcs.stat_reads;
SELECT sum(reads) AS reads, bool_and(stats_reset <= now()) AS reset_in_the_past,
	   bool_and(array_length(wait_histogram, 1) = 9) AS buckets,
	   sum(h.n) AS waits
  FROM tcs.stat_reads, unnest(wait_histogram) AS h (n);
SELECT 1 AS one;
SHOW tcs.read_level;
SELECT role FROM tcs.status;
SELECT pg_is_in_recovery();
SELECT sum(reads) FROM tcs.stat_reads;

-- One statement, one read.
SET tcs.read_level = strong;
SELECT v FROM t;
SELECT a.v FROM t a, t b WHERE a.v = b.v;
SET tcs.read_level = eventual;
SELECT v FROM t;
SET tcs.read_level = session;
BEGIN;
SELECT v FROM t;
SELECT v FROM t;
COMMIT;
PREPARE p AS SELECT v FROM t;
EXECUTE p;
EXECUTE p;
COPY t TO STDOUT;
DO $$ BEGIN PERFORM v FROM t; PERFORM v FROM t; END $$;
SELECT level, reads, served_at_once FROM tcs.stat_reads WHERE reads > 0 ORDER BY level COLLATE "C";

-- Of them, those of a session without a token.
SELECT tcs.stat_reads_reset();
SELECT v FROM t;
SELECT tcs.session_token() AS token \gset
SET tcs.session_token = :'token';
SELECT v FROM t;
SET tcs.session_token = '';
SELECT v FROM t;
SELECT reads, reads_without_token FROM tcs.stat_reads WHERE level = 'session';

-- A cursor is read where it is declared.
SELECT tcs.stat_reads_reset();
BEGIN;
DECLARE c CURSOR FOR SELECT v FROM t;
FETCH c;
FETCH c;
CLOSE c;
COMMIT;
SELECT reads FROM tcs.stat_reads WHERE level = 'session';

-- What a statement does behind the scenes is no read of its own.
SELECT tcs.stat_reads_reset();
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (1);
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO child VALUES (1);
COMMIT;
SELECT reads FROM tcs.stat_reads WHERE level = 'session';
DROP TABLE child, parent;

-- What fails for reasons of its own was a read.
SELECT tcs.stat_reads_reset();
SELECT 1 / (v - v) FROM t;
SELECT reads, served_at_once, refused FROM tcs.stat_reads WHERE level = 'session';

-- Refused, and served below the level asked for: a token of another cluster.
SELECT tcs.stat_reads_reset();
SET client_min_messages = error;
DO $$
DECLARE
	body text := '1.1234567890abcdef.1.0.100.0.0.0';
	crc bigint := 4294967295;
BEGIN
	FOR i IN 1 .. length(body) LOOP
		crc := crc # ascii(substr(body, i, 1));
		FOR bit IN 1 .. 8 LOOP
			crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 2197175160 ELSE crc >> 1 END;
		END LOOP;
	END LOOP;
	PERFORM set_config('tcs.session_token', body || '.' || lpad(to_hex(crc # 4294967295), 8, '0'), false);
END $$;
SELECT tcs.stat_reads_reset();
SELECT v FROM t;
SELECT v FROM t;
SET tcs.fallback = 'eventual';
SELECT v FROM t;
SET tcs.fallback = 'consistent_prefix';
SET tcs.read_level = strong;
SELECT v FROM t;
SELECT v FROM t;
SELECT level, reads, served_at_once, waited, timed_out, downgraded, refused
  FROM tcs.stat_reads WHERE reads > 0 ORDER BY level COLLATE "C";
SELECT level, served_level, reason, reads FROM tcs.stat_downgrades;

-- Counters outlive the session; reset empties all of them.
\c -
SELECT sum(reads) AS reads, sum(refused) AS refused, sum(downgraded) AS downgraded FROM tcs.stat_reads;
SELECT stats_reset AS before FROM tcs.stat_reads LIMIT 1 \gset
SELECT tcs.stat_reads_reset();
SELECT sum(reads) AS reads, sum(refused) AS refused, sum(downgraded) AS downgraded,
	   bool_and(stats_reset > :'before') AS later
  FROM tcs.stat_reads;
DROP TABLE t;
