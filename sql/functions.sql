--
-- Functions and views on a primary: what they return, who may call them.
--
\pset null '(null)'
\set SHOW_CONTEXT never
SELECT current_user AS owner \gset

--
-- What there is
--
SELECT p.oid::regprocedure AS function, p.prokind, p.provolatile, p.proparallel, p.proisstrict
  FROM pg_proc p WHERE p.pronamespace = 'tcs'::regnamespace ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.relname, obj_description(c.oid, 'pg_class') IS NOT NULL AS described
  FROM pg_class c WHERE c.relnamespace = 'tcs'::regnamespace AND c.relkind = 'v'
 ORDER BY c.relname COLLATE "C";
SELECT extversion, nspname AS schema, extrelocatable
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'tcs';

-- All that is in the schema belongs to the extension.
SELECT count(*) AS strays
  FROM (SELECT oid, 'pg_proc'::regclass AS class FROM pg_proc WHERE pronamespace = 'tcs'::regnamespace
		UNION ALL
		SELECT oid, 'pg_class' FROM pg_class WHERE relnamespace = 'tcs'::regnamespace AND relkind <> 'i') AS o
 WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid
					  AND d.deptype = 'e');

--
-- A primary
--
SELECT role, library_version, system_identifier = (SELECT system_identifier FROM pg_control_system()) AS ours,
	   timeline, replay_lsn, replay_state, primary_lsn, last_answer_age_ms, staleness_ms,
	   staleness_bytes, bound_state, link_state, link_reason, worker_pid, worker_state
  FROM tcs.status();
SELECT level, tcs.can_serve(level), tcs.can_serve(upper(level), '0')
  FROM unnest(ARRAY['eventual', 'consistent_prefix', 'bounded', 'read_your_writes',
					'monotonic_reads', 'session', 'sequential', 'causal', 'strong']) AS level;
SELECT tcs.can_serve(NULL), tcs.can_serve('bounded', NULL);
SELECT tcs.can_serve('snapshot');
SELECT tcs.can_serve('linearizable');
SELECT tcs.can_serve('fresh');
SELECT tcs.can_serve('bounded', '-1 s');
SELECT lsn <= pg_current_wal_flush_lsn() AS flushed, timeline,
	   system_identifier = (SELECT system_identifier FROM pg_control_system()) AS ours
  FROM tcs.read_index();
SELECT count(*) FROM tcs.standbys;

-- A commit that was acknowledged is covered, an asynchronous one as well.
CREATE TABLE t (v int);
INSERT INTO t VALUES (1);
SET synchronous_commit = off;
UPDATE t SET v = 2;
SELECT r.lsn >= i.written AS covered
  FROM tcs.token_info(current_setting('tcs.session_token')) i, tcs.read_index() r;
RESET synchronous_commit;

--
-- tcs.wait_for()
--
SELECT tcs.session_token() AS token \gset
CALL tcs.wait_for(:'token');
CALL tcs.wait_for(:'token', '0');
CALL tcs.wait_for(:'token', max_wait => '1 min');
CALL tcs.wait_for(:'token', '-1 ms');
CALL tcs.wait_for('');
CALL tcs.wait_for(NULL, NULL);
BEGIN;
CALL tcs.wait_for(:'token');
COMMIT;
CREATE PROCEDURE waits(token text) LANGUAGE plpgsql AS $$
BEGIN
	CALL tcs.wait_for(token);
	PERFORM v FROM t;
	COMMIT;
	CALL tcs.wait_for(token);
	UPDATE t SET v = v + 1;
END $$;
CALL waits(:'token');
SELECT v FROM t;
BEGIN;
CALL waits(:'token');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL tcs.wait_for(:'token');
ROLLBACK;
SELECT tcs.wait_for('');

--
-- tcs.last_read()
--
\c - :owner
\pset null '(null)'
SELECT * FROM tcs.last_read();
SELECT v FROM t;
SELECT level, level_source, needed_lsn, waited_ms, outcome, reason FROM tcs.last_read();
-- It is not a read itself, nor is what reads no table.
SELECT 1 AS one;
SELECT outcome FROM tcs.last_read();
SET tcs.read_level = strong;
SELECT v FROM t;
SELECT level, level_source, waited_ms, outcome, reason FROM tcs.last_read();
BEGIN;
SET LOCAL tcs.read_level = bounded;
SELECT v FROM t;
COMMIT;
SELECT level, level_source FROM tcs.last_read();
DO $$ BEGIN PERFORM v FROM t; END $$;
SELECT level, level_source FROM tcs.last_read();
SET tcs.session_token = :'token';
SET tcs.read_level = causal;
SELECT v FROM t;
SELECT level, outcome FROM tcs.last_read();
-- start-up options
\set conninfo 'dbname=' :DBNAME ' options='
\set with_level :conninfo '-c\\ tcs.read_level=sequential'
\c :with_level
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read();
RESET tcs.read_level;
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read();
\set without :conninfo ''''''
\c :without

--
-- Sources of the level
--
CREATE ROLE regress_tcs_plain LOGIN;
GRANT SELECT ON t TO regress_tcs_plain;
ALTER DATABASE :"DBNAME" SET tcs.read_level = 'eventual';
\c - -
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read();
ALTER ROLE regress_tcs_plain SET tcs.read_level = 'bounded';
\c - regress_tcs_plain
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read();
\c - :owner
ALTER ROLE regress_tcs_plain IN DATABASE :"DBNAME" SET tcs.read_level = 'strong';
\c - regress_tcs_plain
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read();
\c - :owner
ALTER ROLE regress_tcs_plain IN DATABASE :"DBNAME" RESET tcs.read_level;
ALTER ROLE regress_tcs_plain RESET tcs.read_level;
ALTER DATABASE :"DBNAME" RESET tcs.read_level;

--
-- A role with nothing but what PUBLIC has
--
\c - regress_tcs_plain
SELECT tcs.session_token() AS token \gset
SELECT on_this_history FROM tcs.token_info(:'token');
SELECT tcs.merge_tokens(:'token', :'token') = :'token' AS merged;
SELECT tcs.merge_tokens(t) = :'token' AS merged FROM unnest(ARRAY[:'token', :'token']) AS t;
CALL tcs.wait_for(:'token', '1 s');
SELECT role FROM tcs.status();
SELECT tcs.can_serve('strong');
SELECT v FROM t;
SELECT outcome FROM tcs.last_read();
SELECT count(*) FROM tcs.stat_reads;
SELECT count(*) FROM tcs.standbys;
SELECT tcs.stat_reads_reset();
SELECT * FROM tcs.read_index();
\c - :owner
GRANT EXECUTE ON FUNCTION tcs.stat_reads_reset() TO regress_tcs_plain;
ALTER ROLE regress_tcs_plain REPLICATION;
\c - regress_tcs_plain
SELECT tcs.stat_reads_reset();
SELECT timeline FROM tcs.read_index();
\c - :owner
REVOKE EXECUTE ON FUNCTION tcs.stat_reads_reset() FROM regress_tcs_plain;
REVOKE SELECT ON t FROM regress_tcs_plain;
DROP ROLE regress_tcs_plain;

DROP PROCEDURE waits(text);
DROP TABLE t;
