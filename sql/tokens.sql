--
-- Tokens: their text, what they say, merging them, and those that are none.
--
-- This server is a primary that has never been anything else: timeline 1.
-- Nothing here may print a token, since all of it differs from run to run.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');

-- A token of one's own making, with valid check digits: CRC-32C of the text
-- before the last dot.
CREATE FUNCTION checked(body text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	crc bigint := 4294967295;
BEGIN
	FOR i IN 1 .. length(body) LOOP
		crc := crc # ascii(lower(substr(body, i, 1)));
		FOR bit IN 1 .. 8 LOOP
			crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 2197175160 ELSE crc >> 1 END;
		END LOOP;
	END LOOP;
	RETURN body || '.' || lpad(to_hex(crc # 4294967295), 8, '0');
END $$;

-- Fields of a token by number, and a token with one of them replaced.
CREATE FUNCTION with_field(token text, field int, value text) RETURNS text
LANGUAGE sql AS $$
	SELECT checked(string_agg(CASE WHEN n = field THEN value ELSE part END, '.' ORDER BY n))
	  FROM regexp_split_to_table(token, '\.') WITH ORDINALITY AS f (part, n)
	 WHERE n < 9
$$;

-- SQLSTATE of a statement, '00000' without an error.
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN '00000';
EXCEPTION WHEN others THEN
	RETURN sqlstate;
END $$;
CREATE FUNCTION set_token(token text) RETURNS text LANGUAGE sql AS
	$$ SELECT outcome(format('SET tcs.session_token = %L', token)) $$;
SELECT checked('123456789') = '123456789.e3069283' AS crc_is_right;

--
-- A good one
--
UPDATE t SET v = 'b';
SELECT current_setting('tcs.session_token') AS written \gset
SELECT tcs.session_token() AS seen \gset
SELECT :'written' ~ '^[0-9a-f.]+$' AS alphabet, length(:'written') <= 125 AS short_enough,
	   checked(regexp_replace(:'written', '\.[^.]*$', '')) = :'written' AS check_digits;
SELECT version, system_identifier = (SELECT system_identifier FROM pg_control_system()) AS ours,
	   timeline_id, timeline_begin_lsn = '0/0' AS first, written_lsn IS NOT NULL AS written,
	   durable, seen_on_primary_lsn, seen_on_standby_lsn, on_this_history, history_detail, reached_here
  FROM tcs.token_info(:'written');
SELECT timeline_id, i.written_lsn >= (tcs.token_info(:'written')).written_lsn AS written_too,
	   seen_on_primary_lsn >= i.written_lsn AS seen, seen_on_standby_lsn, on_this_history, history_detail, reached_here
  FROM tcs.token_info(:'seen') i;
SELECT i.written_lsn <= pg_current_wal_insert_lsn() AS in_the_past
  FROM tcs.token_info(:'written') i;
SELECT tcs.token_info(NULL) IS NULL;

-- Letters in any case: poolers do not tell them apart.
SELECT set_token(upper(:'written')), set_token(initcap(:'written'));
SELECT v FROM t;
SELECT tcs.token_info(upper(:'seen')) = tcs.token_info(:'seen') AS same;
SELECT tcs.merge_tokens(upper(:'seen'), :'seen') = :'seen' AS same;

-- The largest numbers that fit keep the text within 125 bytes.
SELECT length(checked(rpad('1.ffffffffffffffff.ffffffff', 27) || repeat('.ffffffffffffffff', 4) || '.1')) <= 125 AS short_enough,
	   set_token(checked('1.ffffffffffffffff.ffffffff' || repeat('.ffffffffffffffff', 4) || '.1'));

--
-- None at all
--
SET tcs.session_token = '';
-- this section only asks what is accepted
SET tcs.read_level = eventual;
SELECT set_token('');
SELECT left(what, 24) AS what, set_token(what)
  FROM unnest(ARRAY['garbage', 'NULL', '.', '..', '1', '1.', '1.2.3', ' ', '0', '''', E'\n',
					'........', '1.......1', checked(''), checked('1'), checked('1.2.3'),
					checked('1.2.3.4.5.6.0'), checked('1.2.3.4.5.6.7.0.8'), checked('1.2.3.4.5.6.7'), checked('1.2.3.4.5.6.7.00'),
					checked('1.2.0.4.5.6.7.0'), checked('1.2.100000000.4.5.6.7.0'),
					checked('0.2.3.4.5.6.7.0'), checked('.2.3.4.5.6.7.0'),
					checked('1.2.3.4..6.7.0'), checked('1.2.3.4.11111111111111111.6.7.0'),
					checked('1.2.3.4.g.6.7.0'), checked('1.2.3.4.-5.6.7.0'),
					checked('1.2.3.4.5/6.6.7.0'), checked('1.2.3.4.0x5.6.7.0'),
					checked('1.2.3.4. 5.6.7.0')]) AS what;
SELECT set_token(:'written' || ' '), set_token(' ' || :'written'), set_token(:'written' || E'\n'),
	   set_token(:'written' || '.'), set_token(:'written' || '0'),
	   set_token(left(:'written', -1)), set_token(substr(:'written', 2)),
	   set_token(:'written' || :'written'), set_token(:'written' || ',' || :'written');
SET tcs.session_token = 'garbage';
SELECT tcs.token_info('garbage');
SELECT tcs.merge_tokens('garbage', '');
CALL tcs.wait_for('garbage');

-- A megabyte of it: refused, without being repeated in full.
DO $$
BEGIN
	PERFORM set_config('tcs.session_token', repeat('a', 1048576), false);
EXCEPTION WHEN invalid_parameter_value THEN
	RAISE WARNING 'refused, the message is short: %', length(sqlerrm) < 1000;
END $$;
SELECT outcome($$SELECT tcs.token_info(repeat('1.', 524288))$$),
	   outcome($$SELECT tcs.merge_tokens(repeat('f', 1048576), repeat('f', 1048576))$$),
	   outcome($$CALL tcs.wait_for(repeat('f', 1048576))$$),
	   set_token(checked(repeat('1', 125)));
SELECT tcs.token_info(repeat('z', 1048576));

-- Every change of one character is noticed, whichever of the alphabet it is.
SELECT count(*) > 500 AS many, count(*) FILTER (WHERE state = '22023') = count(*) AS all_refused
  FROM (SELECT set_token(overlay(token PLACING c FROM i)) AS state
		  FROM (SELECT lower(:'seen') AS token) AS token,
			   generate_series(1, length(:'seen')) AS i,
			   regexp_split_to_table('0123456789abcdef.:-', '') AS c
		 WHERE substr(token, i, 1) <> c) AS changed;
-- So is every flipped bit that leaves a letter.
SELECT count(*) FILTER (WHERE state = '22023') = count(*) AS all_refused
  FROM (SELECT set_token(overlay(:'seen' PLACING chr(code) FROM i)) AS state
		  FROM generate_series(1, length(:'seen')) AS i, generate_series(0, 6) AS bit,
			   LATERAL (SELECT ascii(substr(:'seen', i, 1)) # (1 << bit) AS code) AS flip
		 WHERE code > 31 AND lower(chr(code)) <> lower(substr(:'seen', i, 1))) AS changed;

-- What was refused has replaced nothing.
SELECT set_token(:'written');
SELECT set_token('garbage'), current_setting('tcs.session_token') = :'written' AS still_there;

RESET tcs.read_level;

--
-- Of another cluster
--
SELECT with_field(:'written', 2, '1234567890abcdef') AS foreign \gset
SET tcs.session_token = :'foreign';
SELECT v FROM t;
SET tcs.read_level = eventual;
SELECT v FROM t;
SET tcs.read_level = consistent_prefix;
SELECT v FROM t;
\set VERBOSITY sqlstate
SET tcs.read_level = read_your_writes;
SELECT v FROM t;
SET tcs.read_level = monotonic_reads;
SELECT v FROM t;
SET tcs.read_level = bounded;
SELECT v FROM t;
SET tcs.read_level = strong;
SELECT v FROM t;
SET tcs.fallback = eventual;
SELECT v FROM t;
SET client_min_messages = error;
SELECT v FROM t;
SET client_min_messages = warning;
\set VERBOSITY default
RESET tcs.fallback;
RESET tcs.read_level;
-- What reads nothing, and what looks for the cause, works all the same.
SELECT 1 AS one;
SELECT role FROM tcs.status;
SELECT on_this_history, history_detail, reached_here FROM tcs.token_info(:'foreign');
SELECT tcs.merge_tokens(:'written', :'foreign');
CALL tcs.wait_for(:'foreign');
SELECT (tcs.token_info(tcs.session_token())).history_detail;
SET tcs.session_token = '';
SELECT v FROM t;

--
-- Far in the future of this timeline: a primary need not wait to know
--
SELECT with_field(:'written', 5, '7fffffff00000000') AS future_written,
	   with_field(:'seen', 6, '7fffffff00000000') AS future_seen_primary,
	   with_field(:'seen', 7, '7fffffff00000000') AS future_seen_standby \gset
SET tcs.max_wait = -1;
\set VERBOSITY sqlstate
SET tcs.session_token = :'future_written';
SELECT v FROM t;
SET tcs.read_level = read_your_writes;
SELECT v FROM t;
SET tcs.read_level = monotonic_reads;
SELECT v FROM t;
SET tcs.read_level = bounded;
SELECT v FROM t;
SET tcs.read_level = strong;
SELECT v FROM t;
SET tcs.read_level = eventual;
SELECT v FROM t;
RESET tcs.read_level;
SET tcs.session_token = :'future_seen_primary';
SELECT v FROM t;
SET tcs.session_token = :'future_seen_standby';
SELECT v FROM t;
BEGIN;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
ROLLBACK;
SET tcs.session_token = '';
BEGIN;
SET LOCAL tcs.session_token = :'future_written';
SELECT v FROM t;
ROLLBACK;
CALL tcs.wait_for(:'future_written');
CALL tcs.wait_for(:'future_seen_standby', '1 h');
\set VERBOSITY default
SELECT on_this_history, regexp_replace(history_detail, '[0-9A-F]+/[0-9A-F]+', 'LSN') AS history_detail, reached_here
  FROM tcs.token_info(:'future_written');
SELECT v FROM t;

--
-- Other timelines: one that is not there yet, one that began elsewhere
--
SELECT with_field(with_field(:'written', 3, '5'), 4, '1000000') AS newer,
	   with_field(:'written', 4, '1000000') AS elsewhere \gset
\set VERBOSITY sqlstate
SET tcs.session_token = :'newer';
SELECT v FROM t;
CALL tcs.wait_for(:'newer');
SET tcs.session_token = :'elsewhere';
SELECT v FROM t;
CALL tcs.wait_for(:'elsewhere');
SELECT tcs.merge_tokens(:'written', :'newer');
SELECT tcs.merge_tokens(:'written', :'elsewhere');
\set VERBOSITY default
CREATE FUNCTION told(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM set_config('tcs.session_token', token, true);
	PERFORM v FROM t;
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ': ' || sqlerrm || ': ' || regexp_replace(detail, '[0-9A-F]+/[0-9A-F]+', 'LSN', 'g');
END $$;
SELECT on_this_history, history_detail, reached_here FROM tcs.token_info(:'newer');
SELECT on_this_history, history_detail, reached_here FROM tcs.token_info(:'elsewhere');
RESET tcs.max_wait;
SET tcs.session_token = '';
SELECT told(:'newer');
SELECT told(:'elsewhere');
SELECT told(:'future_written');
DROP FUNCTION told(text);

--
-- Of a later version of tcs: no text to be damaged, nothing to be relied on
--
SELECT checked('2.1.1.0.5.6.7') AS next_version,
	   checked('ff.anything:but-1') AS garbled,
	   checked('f.abc:de-1.2') AS far_version \gset
SET tcs.read_level = eventual;
SELECT set_token(:'garbled'), set_token(:'far_version'), set_token(:'next_version');
RESET tcs.read_level;
SET tcs.session_token = :'next_version';
SELECT v FROM t;
SET tcs.read_level = eventual;
SELECT v FROM t;
RESET tcs.read_level;
SELECT version, timeline_id, on_this_history, history_detail, reached_here
  FROM tcs.token_info(:'next_version');
SELECT tcs.merge_tokens(:'written', :'next_version');
CALL tcs.wait_for(:'next_version');
SELECT (tcs.token_info(tcs.session_token())).history_detail;
SET tcs.session_token = '';

--
-- Merging
--
SELECT tcs.merge_tokens('', '') IS NULL AS nothing, tcs.merge_tokens(NULL, NULL) IS NULL AS null,
	   tcs.merge_tokens(:'written', '') = :'written' AS one,
	   tcs.merge_tokens(NULL, :'written') = :'written' AS other,
	   tcs.merge_tokens(:'written', :'written') = :'written' AS same,
	   tcs.merge_tokens(:'written', :'seen') = tcs.merge_tokens(:'seen', :'written') AS either_way;
SELECT with_field(:'written', 7, '10') AS a, with_field(:'written', 7, '20') AS b,
	   with_field(with_field(:'written', 5, '8'), 6, '30') AS c \gset
SELECT i.written_lsn = (tcs.token_info(:'written')).written_lsn AS largest_written,
	   i.seen_on_primary_lsn = '0/30' AS primary, i.seen_on_standby_lsn = '0/20' AS standby
  FROM tcs.token_info(tcs.merge_tokens(tcs.merge_tokens(:'a', :'b'), :'c')) i;
SELECT i.written_lsn = (tcs.token_info(:'written')).written_lsn AS largest_written,
	   i.seen_on_primary_lsn = '0/30' AS primary, i.seen_on_standby_lsn = '0/20' AS standby
  FROM (SELECT tcs.merge_tokens(token) AS merged
		  FROM unnest(ARRAY[:'a', NULL, :'c', '', :'b']) AS token) AS m,
	   tcs.token_info(merged) i;
SELECT tcs.merge_tokens(token) IS NULL AS null FROM unnest('{}'::text[]) AS token;
SELECT tcs.merge_tokens(token) IS NULL AS null FROM unnest(ARRAY[NULL, '']) AS token;
SELECT n % 2 AS half, (tcs.token_info(tcs.merge_tokens(
		with_field(:'written', 7, to_hex(n))))).seen_on_standby_lsn - pg_lsn '0/0' AS largest
  FROM generate_series(1, 9) AS n GROUP BY 1 ORDER BY 1;
SELECT tcs.merge_tokens(token) FROM unnest(ARRAY[:'a', 'garbage']) AS token;
SELECT tcs.merge_tokens(token) FROM unnest(ARRAY[:'a', :'foreign']) AS token;

--
-- The session's own
--
SET tcs.session_token = :'b';
SELECT i.written_lsn >= (tcs.token_info(:'written')).written_lsn AS written,
	   i.seen_on_primary_lsn IS NOT NULL AS seen, i.seen_on_standby_lsn = '0/20' AS standby
  FROM tcs.token_info(tcs.session_token()) i;
UPDATE t SET v = 'c';
SELECT i.written_lsn > (tcs.token_info(:'written')).written_lsn AS written_since,
	   i.seen_on_primary_lsn, i.seen_on_standby_lsn = '0/20' AS standby
  FROM tcs.token_info(current_setting('tcs.session_token')) i;
-- What cannot be of this history stays, and is refused, until it is replaced.
SET tcs.session_token = :'foreign';
SET tcs.read_level = eventual;
UPDATE t SET v = 'd';
SELECT i.on_this_history, i.history_detail, i.reached_here
  FROM tcs.token_info(current_setting('tcs.session_token')) i;
RESET tcs.read_level;
SELECT v FROM t;

RESET ALL;
DROP TABLE t;
DROP FUNCTION set_token(text), outcome(text), with_field(text, int, text), checked(text);
