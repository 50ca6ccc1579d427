--
-- The settings: names, kinds, units, ranges, check hooks, who may set them.
--
-- Ranges are worded differently by the server's versions, so those errors are
-- shown by their SQLSTATE.
--
\pset null '(null)'
SELECT name, vartype, context, unit, boot_val, min_val, max_val
  FROM pg_settings WHERE name LIKE 'tcs.%' ORDER BY name COLLATE "C";
SELECT name, short_desc FROM pg_settings WHERE name LIKE 'tcs.%'
 ORDER BY name COLLATE "C";
SELECT name, enumvals FROM pg_settings
 WHERE name LIKE 'tcs.%' AND vartype = 'enum' ORDER BY name COLLATE "C";

-- nothing is asked for until somebody asks
SELECT count(*) AS not_at_default FROM pg_settings
 WHERE name LIKE 'tcs.%' AND setting IS DISTINCT FROM boot_val;

--
-- Levels
--
CREATE FUNCTION try_set(name text, value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN set_config(name, value, false);
EXCEPTION WHEN others THEN
	RETURN sqlstate;
END $$;

SELECT level, try_set('tcs.read_level', level)
  FROM unnest(ARRAY['eventual', 'consistent_prefix', 'bounded', 'read_your_writes',
					'monotonic_reads', 'session', 'sequential', 'causal', 'strong',
					'STRONG', 'Read_Your_Writes',
					'', 'strongest', 'session ', '1', 'snapshot']) AS level;
SET tcs.read_level = strong;
SHOW tcs.read_level;
SET tcs.read_level = strongest;
SET tcs.read_level = snapshot;
SET tcs.read_level = linearizable;
SHOW tcs.read_level;
-- nobody could confirm what is read
SELECT count(*) FROM pg_class WHERE relname = 'pg_class';
SET tcs.fallback = 'strong';
SELECT count(*) FROM pg_class WHERE relname = 'pg_class';
RESET tcs.fallback;
SET tcs.read_level = DEFAULT;
SHOW tcs.read_level;

--
-- Numbers
--
SELECT name, value, try_set(name, value)
  FROM (VALUES ('tcs.max_wait', '0'), ('tcs.max_wait', '-1'), ('tcs.max_wait', '2min'),
			   ('tcs.max_wait', '1500us'), ('tcs.max_wait', '-2'),
			   ('tcs.max_wait', '2147483648'), ('tcs.max_wait', '30d'),
			   ('tcs.max_wait', 'soon'), ('tcs.max_wait', '1kB'),
			   ('tcs.max_staleness', '0'), ('tcs.max_staleness', '1h'),
			   ('tcs.max_staleness', '-1'), ('tcs.max_staleness', '25d'),
			   ('tcs.max_lag', '-1'), ('tcs.max_lag', '0'), ('tcs.max_lag', '16MB'),
			   ('tcs.max_lag', '-2'), ('tcs.max_lag', '1s'), ('tcs.max_lag', '1024B'),
			   ('tcs.max_wait_limit', '-1'), ('tcs.max_wait_limit', '0'),
			   ('tcs.max_wait_limit', '1min'), ('tcs.max_wait_limit', '-2'),
			   ('tcs.report_token', 'off'), ('tcs.report_token', 'writes'),
			   ('tcs.report_token', 'all'), ('tcs.report_token', 'on'),
			   ('tcs.report_token', 'reads')) AS v (name, value);
RESET ALL;
SHOW tcs.max_wait;
SHOW tcs.max_staleness;
SHOW tcs.max_lag;
SET tcs.report_token = sometimes;

--
-- Steps of a fallback
--
SELECT value, try_set('tcs.fallback', value)
  FROM unnest(ARRAY['error', 'redirect', 'redirect,error', ' eventual ,  Error',
					'BOUNDED, session, eventual', 'snapshot', 'linearizable', '', ',',
					'eventual,', ',eventual', 'eventual eventual', 'retry',
					repeat('eventual, ', 14) || 'eventual',
					repeat('eventual, ', 15) || 'eventual',
					repeat('x', 100)]) AS value;
SET tcs.fallback = redirect, eventual, error;
SHOW tcs.fallback;
SET tcs.fallback = 'eventual, giveup';
SET tcs.fallback = '';
SHOW tcs.fallback;
RESET tcs.fallback;

--
-- Scope: transaction, function, role, database
--
BEGIN;
SET LOCAL tcs.read_level = bounded;
SET LOCAL tcs.max_staleness = '7s';
SHOW tcs.read_level;
SHOW tcs.max_staleness;
COMMIT;
SHOW tcs.read_level;
SHOW tcs.max_staleness;
BEGIN;
SAVEPOINT a;
SET tcs.read_level = strong;
ROLLBACK TO a;
SHOW tcs.read_level;
ROLLBACK;

CREATE FUNCTION level_inside() RETURNS text LANGUAGE sql
	SET tcs.read_level = 'causal' SET tcs.max_wait = '3s'
	AS $$ SELECT current_setting('tcs.read_level') || ' ' || current_setting('tcs.max_wait') $$;
SELECT level_inside(), current_setting('tcs.read_level'), current_setting('tcs.max_wait');
ALTER FUNCTION level_inside() SET tcs.read_level = 'monotonic_reads';
SELECT level_inside();
ALTER FUNCTION level_inside() SET tcs.read_level = 'serializable';
ALTER FUNCTION level_inside() SET tcs.nonsense = 1;
CREATE FUNCTION wrong_level() RETURNS int LANGUAGE sql
	SET tcs.read_level = 'perfect' AS 'SELECT 1';

SELECT current_user AS owner \gset
CREATE ROLE regress_tcs_guest LOGIN;
ALTER ROLE regress_tcs_guest SET tcs.read_level = 'bounded';
ALTER ROLE regress_tcs_guest SET tcs.fallback = eventual, error;
ALTER ROLE regress_tcs_guest SET tcs.max_wait_limit = '9s';
ALTER ROLE regress_tcs_guest SET tcs.read_level = 'serializable';
ALTER DATABASE :"DBNAME" SET tcs.max_staleness = '11s';
ALTER DATABASE :"DBNAME" SET tcs.max_staleness = 'eleven';
\c - regress_tcs_guest
SELECT name, setting, source FROM pg_settings
 WHERE name LIKE 'tcs.%' AND source <> 'default' ORDER BY name COLLATE "C";

--
-- Who may set what: this is a role with nothing but what PUBLIC has
--
SET tcs.read_level = strong;
SET tcs.max_wait = -1;
SET tcs.max_staleness = 1;
SET tcs.max_lag = 1;
SET tcs.fallback = 'error';
SET tcs.report_token = 'all';
SET tcs.session_token = '';
SET tcs.max_wait_limit = -1;
SET tcs.enabled = off;
SET tcs.probe_interval = 0;
SET tcs.primary_conninfo = '';
ALTER ROLE regress_tcs_guest SET tcs.max_wait_limit = -1;
\set VERBOSITY sqlstate
SHOW tcs.primary_conninfo;
\set VERBOSITY default
SELECT count(*) FROM pg_settings WHERE name = 'tcs.primary_conninfo';

--
-- Settings of the server, and those that are nobody's
--
\c - :owner
SET tcs.enabled = off;
SET tcs.probe_interval = '1s';
SET tcs.primary_conninfo = 'host=elsewhere';
ALTER SYSTEM SET tcs.read_level = 'perfect';
ALTER SYSTEM SET tcs.read_level = 'serializable';
ALTER SYSTEM SET tcs.fallback = 'retry';
ALTER SYSTEM SET tcs.session_token = '';
\set VERBOSITY sqlstate
ALTER SYSTEM SET tcs.probe_interval = '2h';
ALTER SYSTEM SET tcs.probe_interval = -1;
\set VERBOSITY default
SET tcs.nonsense = 1;
SET tcs.read_levels = 'strong';
SELECT set_config('tcs.max_waits', '1', false);
SHOW tcs.nonsense;

-- the nodes' own
SHOW tcs.read_index;
SET tcs.read_index = 'x';
SET tcs.asker = 'x';
SELECT count(*) FROM pg_settings WHERE name IN ('tcs.read_index', 'tcs.asker');

-- DISCARD and RESET return to the start
SET tcs.read_level = strong;
SET tcs.max_wait = 1;
DISCARD ALL;
SHOW tcs.read_level;
SHOW tcs.max_wait;
SET tcs.read_level = strong;
RESET ALL;
SHOW tcs.read_level;

-- start-up options
\set plain 'dbname=' :DBNAME ' options='
\set with_options :plain '-c\\ tcs.read_level=causal\\ -c\\ tcs.max_wait=5s'
\c :with_options
SELECT name, setting, source FROM pg_settings
 WHERE name LIKE 'tcs.%' AND source = 'client' ORDER BY name COLLATE "C";
RESET ALL;
SHOW tcs.read_level;

\set plain :plain ''''''
\c :plain
ALTER DATABASE :"DBNAME" RESET tcs.max_staleness;
DROP FUNCTION level_inside(), try_set(text, text);
DROP ROLE regress_tcs_guest;
