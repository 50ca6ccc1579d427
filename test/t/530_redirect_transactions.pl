# test/t/530_redirect_transactions.pl
#
# Redirected statements and their session: transactions and savepoints, steps of
# tcs.fallback, rights, what the session is told of its reads, and its token
# afterwards.  Replay stands still behind changes of the primary: a new row
# proves that the statement ran there, and an old one that it did not.  Where the
# primary can be asked the same by hand, its answer is the expected one.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsRedirect;
use TcsResults;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

# alice and bob must bring a password to the primary, as those who are no
# superusers have to.
$ENV{PGPASSWORD} = 'secret';
$primary->safe_psql(
	'postgres', q{
CREATE ROLE alice LOGIN PASSWORD 'secret';
CREATE ROLE bob LOGIN PASSWORD 'secret';
CREATE ROLE reader;
GRANT reader TO alice;
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'old' FROM generate_series(1, 10) i;
CREATE TABLE empty (a int);
CREATE FUNCTION fails(text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = $1; END$$;
CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM 1 / (count(*) - 10) FROM public.t;
	RETURN 'nothing caught';
EXCEPTION WHEN division_by_zero THEN
	RETURN (SELECT v FROM public.t WHERE id = 1);
END$$;
CREATE FUNCTION f_immutable() RETURNS text LANGUAGE plpgsql IMMUTABLE
	AS 'BEGIN RETURN (SELECT v FROM public.t WHERE id = 1); END';
CREATE FUNCTION f_row(OUT id int, OUT v text) LANGUAGE sql STABLE
	AS 'SELECT id, v FROM public.t WHERE id = 1';
CREATE PROCEDURE p_read(INOUT r text) LANGUAGE plpgsql
	AS 'BEGIN r := (SELECT v FROM public.t WHERE id = 1); END';

CREATE TABLE open_now (v text);
CREATE TABLE closed_now (v text);
CREATE TABLE secret (v text);
CREATE TABLE some_columns (shown text, hidden text);
CREATE TABLE rows_of (owner text, v text);
CREATE POLICY own ON rows_of USING (owner = current_user);
CREATE VIEW by_owner AS SELECT v FROM secret;
CREATE VIEW by_owner_closed AS SELECT v FROM secret;
CREATE VIEW rows_by_owner AS SELECT * FROM rows_of;
CREATE VIEW as_invoker WITH (security_invoker) AS SELECT v FROM secret;
CREATE FUNCTION definer() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
	AS 'SELECT v || '' '' || current_user FROM public.secret';
CREATE FUNCTION definer_closed() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
	AS 'SELECT v FROM public.secret';
CREATE FUNCTION invoker() RETURNS text LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT v FROM public.secret); END';
CREATE FUNCTION becomes(who text, local bool) RETURNS text LANGUAGE plpgsql VOLATILE
	AS $$BEGIN PERFORM set_config('role', who, local); RETURN (SELECT v FROM public.secret); END$$;
INSERT INTO open_now VALUES ('old');
INSERT INTO closed_now VALUES ('old');
INSERT INTO secret VALUES ('old');
INSERT INTO some_columns VALUES ('old', 'old');
INSERT INTO rows_of VALUES ('alice', 'old'), ('bob', 'old');
GRANT SELECT ON t, empty, closed_now, some_columns, rows_of, by_owner, by_owner_closed, rows_by_owner, as_invoker TO alice, bob;
GRANT SELECT ON secret TO reader;
REVOKE EXECUTE ON FUNCTION definer() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION definer() TO alice;
GRANT reader TO bob;
});

redirect_to($primary);
$primary->safe_psql(
	'postgres', q{
CREATE USER MAPPING FOR alice SERVER tcs_primary OPTIONS (password 'secret');
CREATE USER MAPPING FOR bob SERVER tcs_primary OPTIONS (password 'secret');
CREATE SERVER nowhere FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '/nonexistent');
CREATE USER MAPPING FOR CURRENT_USER SERVER nowhere});

my $hba = $primary->data_dir . '/pg_hba.conf';
my $lines = slurp_file($hba);

unlink $hba;
append_to_file($hba, "local all alice,bob scram-sha-256\nhost all alice,bob all scram-sha-256\n$lines");
$primary->reload;
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token(
	$primary, q{
UPDATE t SET v = 'new';
UPDATE secret SET v = 'new';
UPDATE some_columns SET shown = 'new', hidden = 'new';
UPDATE rows_of SET v = 'new';
UPDATE open_now SET v = 'new';
UPDATE closed_now SET v = 'new';
GRANT SELECT ON open_now TO alice;
REVOKE SELECT ON closed_now FROM alice;
REVOKE SELECT ON some_columns FROM alice;
GRANT SELECT (shown) ON some_columns TO alice;
ALTER TABLE rows_of ENABLE ROW LEVEL SECURITY;
REVOKE SELECT ON by_owner_closed FROM alice;
REVOKE EXECUTE ON FUNCTION definer_closed() FROM PUBLIC;
REVOKE reader FROM bob});
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $writer = TcsWire->new($primary);

# A client whose reads need what replay has not come to.
sub lagging_client
{
	my (%opt) = @_;
	my $set = delete $opt{set} // '';
	my $client = TcsWire->new($standby, %opt);

	$client->ok_query(
		"SET tcs.session_token = '$token'; SET tcs.redirect_after = 0; SET tcs.max_wait = 10; $set");
	return $client;
}

# Row by row of all statements.
sub answers_to
{
	my ($client, @sql) = @_;

	return join(' ', map { answer_to($client, $_) || '-' } @sql);
}

my $read = 'SELECT v FROM t WHERE id = 1';
my $c = lagging_client();


##
## What the session is told
##

my $before = redirected($look);

is(answer_to($c, $read), 'new', 'a read');
is($c->ok_query('SELECT level, outcome, level_source FROM tcs.last_read'),
	'session|redirected|default', 'tcs.last_read');
is( $c->ok_query(
		'SELECT needed_lsn IS NOT NULL, reached_lsn >= needed_lsn, reason FROM tcs.last_read'),
	't|t|behind', 'tcs.last_read: positions and the reason');
{
	my $d = TcsWire->new($standby, options => '-c tcs.redirect_after=1h -c tcs.max_wait=2h');

	$d->ok_query("SET tcs.session_token = '$token'");
	is(answer_to($d, $read), 'new', 'a read that would wait in vain does not wait');
	like($d->ok_query('SELECT wait_detail FROM tcs.last_read'), qr/paused/, 'tcs.last_read: why it has not waited');
}
$before++;
is(redirected($look) - $before, 1, 'tcs.stat_reads.redirected');
is($look->ok_query(q{SELECT sum(redirected) > 0 FROM tcs.stat_reads WHERE level = 'session'}), 't', 'the view, at its level');
is($look->ok_query('SELECT connections > 0 FROM tcs.stat_redirects'), 't', 'tcs.stat_redirects');


##
## READ COMMITTED: each statement for itself
##

my $n = 0;

# Changes the row on the primary; returns what it is then.
sub change
{
	$n++;
	$writer->ok_query("UPDATE t SET v = 'new $n' WHERE id = 1");
	return "new $n";
}

my $expected = change();
is(answer_to($c, 'BEGIN'), '', 'BEGIN');
is(answer_to($c, $read), $expected, 'READ COMMITTED: a statement');
$expected = change();
is(answer_to($c, $read), $expected, 'READ COMMITTED: the next one sees more');
is($c->status, 'T', 'the transaction is open');
is(answer_to($c, 'SELECT 1 / (id - 1) FROM t ORDER BY id'), '22012', 'an error of the primary');
is($c->status, 'E', 'aborts the transaction');
is(answer_to($c, $read), '25P02', 'as ever');
is(answer_to($c, 'ROLLBACK'), '', 'ROLLBACK');
is( answers_to($c, 'BEGIN', 'SAVEPOINT a', $read, q{SELECT fails('ZZ001') FROM t}, $read, 'ROLLBACK TO a', $read, 'RELEASE a', $read, 'COMMIT'),
	"- - $expected ZZ001 25P02 - $expected - $expected -", 'READ COMMITTED: savepoints');
is( answers_to($c, 'BEGIN', 'DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id', 'FETCH c', 'SAVEPOINT a',
		'FETCH c', 'DECLARE d CURSOR FOR SELECT -id FROM t ORDER BY id', 'FETCH d', 'ROLLBACK TO a', 'FETCH c', 'FETCH d'),
	'- - 1 - 2 - -1 - 3 34000', 'READ COMMITTED: cursors and savepoints');
is(answer_to($c, 'ROLLBACK'), '', 'ROLLBACK with a cursor');
is(answer_to($c, "BEGIN; $read; $read; COMMIT; $read"), $expected, 'a string with a transaction in it');
$c->ok_query('BEGIN');
my $first = answer_to($c, 'SELECT now() FROM t WHERE id = 1');
like($first, qr/^\d{4}-/, 'now() in a transaction');
# Each statement has a transaction of its own there; see docs/redirect.md.
isnt(answer_to($c, 'SELECT now() FROM t WHERE id = 1'), $first, 'is the moment of the statement');
is(answer_to($c, 'COMMIT'), '', 'COMMIT');

# A statement that reads locally and one that goes, in one transaction.
{
	my $d = TcsWire->new($standby, options => '-c tcs.redirect_after=0 -c tcs.max_wait=10');

	is( answers_to($d, 'BEGIN', $read, "SET LOCAL tcs.session_token = '$token'", $read, 'COMMIT', "SET tcs.fallback = 'error'", $read),
		"- old - $expected - - TC001", 'local and redirected statements mixed in READ COMMITTED');
}


##
## REPEATABLE READ: whole or not at all
##

my $begin = 'BEGIN ISOLATION LEVEL REPEATABLE READ';

is(answers_to($c, $begin, $read), "- $expected", 'REPEATABLE READ: the first statement');
change();
is(answer_to($c, $read), $expected, 'REPEATABLE READ: the same snapshot');
is(answers_to($c, 'SELECT count(*) FROM t', 'COMMIT'), '10 -', 'REPEATABLE READ: the end');
$expected = "new $n";
is(answer_to($c, $read), $expected, 'the next transaction has another snapshot');
is(answers_to($c, $begin, $read, 'COMMIT AND CHAIN', $read, 'ROLLBACK'), "- $expected - $expected -", 'COMMIT AND CHAIN');
is(answers_to($c, $begin, 'DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id', 'FETCH c', $read, 'FETCH c', 'COMMIT'),
	"- - 1 $expected 2 -", 'REPEATABLE READ: a cursor is the first');
is(answers_to($c, 'PREPARE q AS SELECT v FROM t WHERE id = 1', $begin, 'EXECUTE q', 'EXECUTE q', 'COMMIT', 'DEALLOCATE q'),
	"- - $expected $expected - -", 'REPEATABLE READ: EXECUTE is the first');
is(answers_to($c, $begin, 'COPY (SELECT 1 FROM t WHERE id = 1) TO STDOUT', $read, 'COMMIT'), "- - $expected -", 'REPEATABLE READ: COPY is the first');
like(answers_to($c, $begin, 'EXPLAIN ANALYZE SELECT v FROM t', $read, 'COMMIT'), qr/TcsRedirect.* $expected -$/s, 'REPEATABLE READ: EXPLAIN ANALYZE is the first');
like(answers_to($c, $begin, $read, 'EXPLAIN SELECT v FROM t', $read, 'COMMIT'), qr/TcsRedirect.* $expected -$/s, 'REPEATABLE READ: EXPLAIN shows where it would run');
like(answers_to($c, $begin, 'EXPLAIN SELECT v FROM t', $read, 'COMMIT'), qr/TcsRedirect.* ($expected|40001) -$/s, 'REPEATABLE READ: EXPLAIN comes first');
is(answers_to($c, $begin, $read, 'BEGIN', $read, 'COMMIT'), "- $expected - $expected -", 'REPEATABLE READ: a superfluous BEGIN');

# All its statements count, and can be asked for.
{
	my $before_it = redirected($look);

	is(answers_to($c, $begin, $read, 'SELECT count(*) FROM t', "SET LOCAL tcs.fallback = 'error'", $read, 'SELECT outcome FROM tcs.last_read', 'COMMIT'),
		"- $expected 10 - $expected redirected -", 'REPEATABLE READ: whole, whatever is set later');
	is(redirected($look) - $before_it, 3, 'REPEATABLE READ: each of its statements is counted');
}

# Nothing half-local.
foreach my $stays (
	'SELECT pg_is_in_recovery(), v FROM t', 'DO $$BEGIN PERFORM v FROM t; END$$', q{CALL p_read('')},
	'SELECT v FROM t, pg_stat_activity', 'COPY t TO STDOUT', q{SELECT set_config('app.x', v, true) FROM t},
	'SELECT v FROM t FOR SHARE', 'SELECT ROW(id, v) FROM t')
{
	my @results = map { $c->query($_) } $begin, $read, $stays;
	# what recovery refuses anyway is refused as ever
	my ($state, $field, $why) = $stays =~ /SHARE/ ?
	  ('25006', 'M', qr/read-only transaction/) : ('0A000', 'D', qr/first statement/);

	is($results[-1]{state}, $state, "REPEATABLE READ: refused is $stays");
	like($results[-1]{error}{$field}, $why, 'it says why');
	is(answers_to($c, $read, 'ROLLBACK'), '25P02 -', 'and the transaction has failed');
	is(answers_to($c, $begin, $read, 'SAVEPOINT a', $stays, 'ROLLBACK TO a', $read, 'COMMIT'),
		"- $expected - $state - $expected -", 'or goes on after its savepoint');
}
{
	# the first statement stays, so none goes
	my $d = lagging_client(set => "SET tcs.fallback = 'redirect, eventual'");

	is(answers_to($d, $begin, 'SELECT v FROM t WHERE pg_is_in_recovery() AND id = 1', $read, 'COMMIT', $read),
		"- old old - $expected", 'REPEATABLE READ: the first statement stays, and all others do');
}
is(answers_to($c, $begin, 'SELECT pid = pg_backend_pid() FROM pg_stat_activity WHERE pid = pg_backend_pid()', 'ROLLBACK'),
	'- t -', 'REPEATABLE READ: what is about the node');
is(answers_to($c, $begin, $read, 'SELECT pg_is_in_recovery()', 'SHOW transaction_isolation', 'SELECT role FROM tcs.status', 'COMMIT'),
	"- $expected t repeatable read standby -", 'REPEATABLE READ: what reads nothing is no part of it');

# Settings that change within it.
is( answers_to($c, $begin, q{SELECT current_setting('app.x', true), id FROM t WHERE id = 1}, q{SET LOCAL app.x = 'mine'},
		q{SELECT current_setting('app.x', true) FROM t WHERE id = 1}, 'COMMIT'),
	'- |1 - mine -', 'REPEATABLE READ: a setting of the user changes on the way');
is( answers_to($c, $begin, $read, q{SET LOCAL TimeZone = 'Asia/Tokyo'}, q{SELECT '2024-01-01 00:00+00'::timestamptz::text || id FROM t WHERE id = 1}, 'COMMIT'),
	answers_to($writer, $begin, $read, q{SET LOCAL TimeZone = 'Asia/Tokyo'}, q{SELECT '2024-01-01 00:00+00'::timestamptz::text || id FROM t WHERE id = 1}, 'COMMIT'),
	'REPEATABLE READ: the time zone changes on the way');
is( answers_to($c, $begin, $read, 'SET LOCAL ROLE bob', 'SELECT current_user FROM t WHERE id = 1', 'SELECT v FROM secret', 'ROLLBACK'),
	"- $expected - bob 42501 -", 'REPEATABLE READ: the role changes on the way, and its rights with it');
is( answers_to($c, $begin, 'SET LOCAL ROLE alice', 'SELECT current_user FROM t WHERE id = 1', 'RESET ROLE',
		'SELECT current_user = session_user FROM t WHERE id = 1', 'ROLLBACK'),
	'- - alice - t -', 'REPEATABLE READ: RESET ROLE');
like(answers_to($c, $begin, $read, 'SET LOCAL SESSION AUTHORIZATION alice', 'SELECT v FROM closed_now', 'ROLLBACK'),
	qr/^- $expected - (42501|0A000) -$/, 'REPEATABLE READ: the user changes on the way');
is( answers_to($c, $begin, $read, 'SAVEPOINT a', 'SET LOCAL ROLE alice', 'SELECT current_user FROM t WHERE id = 1', 'ROLLBACK TO a',
		'SELECT current_user = session_user FROM t WHERE id = 1', 'COMMIT'),
	"- $expected - - alice - t -", 'REPEATABLE READ: and back with a savepoint');
is( answers_to($c, $begin, $read, 'SET LOCAL search_path = pg_catalog', 'SELECT current_schemas(false)::text FROM public.t WHERE id = 1', 'COMMIT'),
	"- $expected - {pg_catalog} -", 'REPEATABLE READ: search_path changes on the way');


##
## No wait but tcs.redirect_after
##

# With a long tcs.max_wait, and nothing to wait for before the redirect: what
# waits all the same is cancelled.
{
	my $d = lagging_client(set => q{SET tcs.max_wait = '1h'});
	my @held = (
		[ 'a read', '', $read ],
		[ 'BEGIN', '', 'BEGIN' ],
		[ 'BEGIN in REPEATABLE READ', '', $begin ],
		[ 'SET in REPEATABLE READ', 'SET tcs.max_wait = 0; BEGIN ISOLATION LEVEL REPEATABLE READ', q{SET LOCAL tcs.max_wait = '1h'} ],
		[ 'a function that planning may evaluate', '', 'SELECT f_immutable() FROM t WHERE id = 1' ],
		[ 'a function that planning puts into the query', '', 'SELECT f_row.v FROM f_row()' ],
		[ 'a cursor', 'SET tcs.max_wait = 0; BEGIN', q{SET LOCAL tcs.max_wait = '1h'; DECLARE c CURSOR FOR SELECT v FROM t ORDER BY id} ],
		[ 'EXPLAIN', '', 'EXPLAIN SELECT v FROM t' ],
	);

	foreach my $held (@held)
	{
		my ($name, $first, $then) = @$held;

		$d->ok_query($first) if $first;
		is(join(' ', map { $_->{state} } $look->unheld($d, $then)) =~ /57014/ ? 'held' : 'not held', 'not held', "$name is not held");
		$d->query('ROLLBACK; SET tcs.max_wait = 3600000');
	}
	is(answers_to($d, 'SET tcs.max_wait = 10', 'SELECT f_immutable() FROM t WHERE id = 1', 'SELECT f_row.v FROM f_row()'),
		"- $expected $expected", 'and is redirected');
}


##
## Savepoints of a transaction that went over
##

my $error = 'SELECT 1 / (id - 1) FROM t WHERE id = 1';

is(answers_to($c, $begin, 'SAVEPOINT a', $read, $error, 'ROLLBACK TO a', $read, 'COMMIT'),
	"- - $expected 22012 - $expected -", 'a savepoint before the first statement');
is(answers_to($c, $begin, 'SAVEPOINT a', $error, 'ROLLBACK TO a', $read, 'COMMIT'),
	"- - 22012 - $expected -", 'the first statement fails after a savepoint');
is(answers_to($c, $begin, 'SAVEPOINT a', 'SAVEPOINT b', $error, 'ROLLBACK TO b', $read, 'ROLLBACK TO a', $read, 'COMMIT'),
	"- - - 22012 - $expected - $expected -", 'the same, nested');
is(answers_to($c, $begin, $read, 'SAVEPOINT a', $error, 'ROLLBACK TO a', $read, $error, 'ROLLBACK TO a', $read, 'RELEASE a', $read, 'COMMIT'),
	"- $expected - 22012 - $expected 22012 - $expected - $expected -", 'errors, one after another');
is( answers_to($c, $begin, $read, 'SAVEPOINT a', $read, 'SAVEPOINT b', $error, 'ROLLBACK TO a', $read, 'SAVEPOINT b', $read, 'SAVEPOINT c',
		$error, 'ROLLBACK TO b', 'RELEASE b', $read, 'SAVEPOINT d', 'RELEASE a', $read, 'COMMIT'),
	"- $expected - $expected - 22012 - $expected - $expected - 22012 - - $expected - - $expected -", 'nested savepoints');
is( answers_to($c, $begin, $read, 'SAVEPOINT a', 'SAVEPOINT b', 'SAVEPOINT c', $read, 'RELEASE b', 'SAVEPOINT e', 'ROLLBACK TO a', 'SAVEPOINT f', $error, 'ROLLBACK TO f', $read, 'COMMIT'),
	"- $expected - - - $expected - - - - 22012 - $expected -", 'savepoints released and left');
is(answers_to($c, $begin, $read, 'SAVEPOINT a', 'SELECT 1 / 0', 'ROLLBACK TO a', $read, 'SAVEPOINT b', 'nonsense', 'ROLLBACK TO b', $read, 'COMMIT'),
	"- $expected - 22012 - $expected - 42601 - $expected -", 'errors that the primary does not know of');
is( answers_to($c, $begin, 'DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id', 'FETCH c', 'SAVEPOINT a', $read, 'FETCH c',
		$error, 'ROLLBACK TO a', 'FETCH c', $read, 'FETCH 2 FROM c', 'COMMIT'),
	"- - 1 - $expected 2 22012 - 3 $expected 4\n5 -", 'a cursor goes on after ROLLBACK TO');
is( answers_to($c, $begin, $read, 'SAVEPOINT a', 'DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id', 'FETCH c', 'ROLLBACK TO a', 'FETCH c'),
	"- $expected - - 1 - 34000", 'a cursor of the savepoint is gone');
is(answer_to($c, 'ROLLBACK'), '', 'ROLLBACK');
is(answer_to($c, 'SELECT caught() FROM t WHERE id = 1'), $expected, 'an error that a function catches');

# As psql does with ON_ERROR_ROLLBACK.
foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	my ($good, $failed) = (0, 0);

	$c->ok_query("BEGIN ISOLATION LEVEL $isolation");
	foreach my $i (1 .. 100)
	{
		$c->query('SAVEPOINT pg_psql_temporary_savepoint');
		if ($i % 3 == 0)
		{
			$failed++ if answer_to($c, $error) eq '22012';
			$c->query('ROLLBACK TO pg_psql_temporary_savepoint');
		}
		else
		{
			$good++ if answer_to($c, $read) eq $expected;
			$c->query('RELEASE pg_psql_temporary_savepoint');
		}
	}
	is("$good $failed", '67 33', "$isolation: a savepoint around each of 100 statements");
	$c->ok_query('COMMIT');
	is(answer_to($c, $read), $expected, "$isolation: and a statement after that");
}
is($writer->ok_query(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tcs' AND xact_start IS NOT NULL AND state LIKE 'idle in%'}),
	'0', 'no transaction is left open on the primary');


##
## Steps
##

sub steps
{
	my ($fallback, $sql, %opt) = @_;
	my $d = lagging_client(set => "SET tcs.fallback = '$fallback'; " . ($opt{set} // ''));
	my $result = answer_to($d, $sql // $read);
	my $warned = grep { $_->{S} eq 'WARNING' } $d->notices;

	return "$result " . $d->ok_query(q{SELECT concat_ws(' to ', outcome, nullif(served_level, level)) FROM tcs.last_read}) . ($warned ? ' warned' : '');
}

my $stays = 'SELECT v FROM t WHERE id = 1 AND pg_is_in_recovery()';
my @nowhere = (undef, set => 'SET tcs.redirect_server = nowhere');
my @not_there = (undef, set => 'SET tcs.redirect_server = not_there');

is(steps('redirect, bounded, error'), "$expected redirected", 'redirect, bounded, error');
is(steps('redirect'), "$expected redirected", 'redirect');
is(steps('redirect, error'), "$expected redirected", 'redirect, error');
is(steps('redirect, eventual'), "$expected redirected", 'redirect, eventual');
is(steps('eventual, redirect'), 'old downgraded to eventual warned', 'eventual, redirect');
is(steps('error, redirect'), 'TC001 refused', 'error, redirect');
is(steps('error'), 'TC001 refused', 'error');
is(steps('redirect, eventual', $stays), 'old downgraded to eventual warned', 'redirect, eventual: what stays');
is(steps('redirect, error, eventual', $stays), 'TC001 refused', 'redirect, error, eventual: what stays');
is(steps('redirect, eventual', @nowhere), 'old downgraded to eventual warned', 'redirect, eventual: no connection');
is(steps('redirect, error', @nowhere), 'TC001 refused', 'redirect, error: no connection');
is(steps('redirect, eventual', @not_there), 'old downgraded to eventual warned', 'redirect, eventual: no such server');
is(steps('redirect, eventual', $error), '22012 redirected', 'an error of the statement is no reason for the next step');
is(steps('bounded, redirect', undef, set => 'SET tcs.max_staleness = 0'), "$expected redirected", 'bounded, redirect: not met');
is(steps('session, redirect', undef, set => 'SET tcs.read_level = strong'), "$expected redirected", 'session, redirect: neither is met');
is(steps('redirect', undef, set => q{SET tcs.session_token = ''; SET tcs.read_level = strong}), "$expected redirected", 'strong, without a token');
is(steps('redirect', undef, set => q{SET tcs.session_token = ''}), 'old served', 'nothing is asked for');


##
## The token afterwards
##

# A session whose token is older than what a redirected read has shown it must
# not see less in the next read, which is not redirected.
sub next_read
{
	my ($d) = @_;

	$d->ok_query(q{SET tcs.fallback = 'error'});
	my $result = answer_to($d, $read);
	$d->ok_query('RESET tcs.fallback');
	return $result;
}

foreach my $how ('autocommit', 'COMMIT', 'ROLLBACK', 'an error', 'ROLLBACK TO', 'REPEATABLE READ, ROLLBACK', 'a cursor, ROLLBACK')
{
	my $d = lagging_client(set => q{SET tcs.session_token = ''; SET tcs.read_level = strong});
	my $fresh = change();
	my @sql =
		$how eq 'autocommit' ? $read
	  : $how eq 'COMMIT' ? ('BEGIN', $read, 'COMMIT')
	  : $how eq 'ROLLBACK' ? ('BEGIN', $read, 'ROLLBACK')
	  : $how eq 'an error' ? ('BEGIN', $read, 'SELECT 1 / 0', 'ROLLBACK')
	  : $how eq 'ROLLBACK TO' ? ('BEGIN', 'SAVEPOINT a', $read, 'SELECT 1', 'ROLLBACK TO a', 'COMMIT')
	  : $how eq 'a cursor, ROLLBACK' ? ('BEGIN', "DECLARE c CURSOR FOR $read", 'FETCH c', 'ROLLBACK')
	  : ($begin, $read, 'ROLLBACK');

	like(answers_to($d, @sql), qr/\b$fresh\b/, "$how: the read is redirected");
	$d->ok_query('SET tcs.read_level = session');
	is(next_read($d), 'TC001', "$how: the next read does not fall back behind it");
	is(answer_to($d, $read), $fresh, "$how: but is redirected, too");
	like($d->parameter('tcs.session_token'), qr/^\d+\.[0-9a-f.]+$/, "$how: the client has been told a token");
	is($writer->ok_query("SELECT seen_on_primary_lsn > '0/0' AND coalesce(written_lsn, '0/0') = '0/0' FROM tcs.token_info('" . $d->parameter('tcs.session_token') . "')"),
		't', "$how: which says what was seen, and nothing of writes");
	$d->disconnect;
}
$expected = "new $n";
{
	my $d = lagging_client(set => q{SET tcs.session_token = ''; SET tcs.read_level = strong});

	is(answers_to($d, 'BEGIN', 'SAVEPOINT a', $read, 'ROLLBACK TO a', q{SET tcs.read_level = session}, q{SET tcs.fallback = 'error'}, $read),
		"- - $expected - - - TC001", 'ROLLBACK TO: also in the same transaction');
}
{
	# what was handed in stays part of it
	my $d = lagging_client();

	$d->ok_query($read);
	my $after = $d->parameter('tcs.session_token');

	is($writer->ok_query("SELECT tcs.merge_tokens('$token', '$after') = '$after'"), 't', 'the new token covers the one handed in');
	is(TcsWire->new($primary)->ok_query("SET tcs.session_token = '$after'; $read"), $expected, 'the primary takes it');
}


##
## Rights
##

my $alice = lagging_client(user => 'alice');
my $bob = lagging_client(user => 'bob');

# The same on the primary, by hand, and the expected answer.
sub rights
{
	my ($name, $sql, $wanted, %opt) = @_;
	my $user = $opt{user} // 'alice';
	my ($state, undef, $stdout) = psql_err($primary, $sql, user => $user);
	my $by_hand = $state eq '00000' ? $stdout : $state;

	is($by_hand, $wanted, "$name: on the primary");
	my $got = answer_to($user eq 'alice' ? $alice : $bob, $sql);

	$_->query('ROLLBACK; RESET ROLE') foreach $alice, $bob;
	return is($got, $wanted, "$name: redirected");
}

rights('a table', 'SELECT v FROM t WHERE id = 2', 'new');
rights('granted meanwhile', 'SELECT v FROM open_now', 'new');
rights('revoked meanwhile', 'SELECT v FROM closed_now', '42501');
rights('never granted', 'SELECT * FROM pg_authid', '42501');
rights('a column', 'SELECT shown FROM some_columns', 'new');
rights('a column revoked meanwhile', 'SELECT hidden FROM some_columns', '42501');
rights('all columns', 'SELECT * FROM some_columns', '42501');
rights('a revoked column in a condition', 'SELECT shown FROM some_columns WHERE hidden IS NOT NULL', '42501');
rights('a count of rows', 'SELECT count(*) FROM some_columns', '1');
rights('row security switched on meanwhile', 'SELECT owner, v FROM rows_of', 'alice|new');
rights('row security of somebody else', 'SELECT owner, v FROM rows_of', 'bob|new', user => 'bob');
rights("a view with its owner's rights", 'SELECT v FROM by_owner', 'new');
rights("a view past its owner's row security", 'SELECT owner, v FROM rows_by_owner ORDER BY 1', "alice|new\nbob|new");
rights('a view revoked meanwhile', 'SELECT v FROM by_owner_closed', '42501');
rights('an invoker view', 'SELECT v FROM as_invoker', 'new');
rights('an invoker view, membership revoked meanwhile', 'SELECT v FROM as_invoker', '42501', user => 'bob');
rights('membership', 'SELECT v FROM secret', 'new');
rights('membership revoked meanwhile', 'SELECT v FROM secret', '42501', user => 'bob');
rights('a definer function', 'SELECT definer() FROM t WHERE id = 1', 'new ' . $writer->ok_query('SELECT current_user'));
rights('a definer function without EXECUTE', 'SELECT definer() FROM t WHERE id = 1', '42501', user => 'bob');
rights('a definer function revoked meanwhile', 'SELECT definer_closed() FROM t WHERE id = 1', '42501');
rights('an invoker function', 'SELECT invoker() FROM t WHERE id = 1', 'new');
rights('an invoker function, membership revoked', 'SELECT invoker() FROM t WHERE id = 1', '42501', user => 'bob');
rights('SET ROLE', "SET ROLE reader; SELECT current_user || v FROM secret", 'readernew');
rights('SET ROLE, its rights', 'SET ROLE reader; SELECT v FROM open_now', '42501');
rights('a function becomes a superuser', q{SELECT becomes('} . $writer->ok_query('SELECT current_user') . q{', true) FROM t WHERE id = 1}, '42501', user => 'bob');
rights('COPY', 'COPY (SELECT hidden FROM some_columns) TO STDOUT', '42501');
rights('a cursor', 'BEGIN; DECLARE c CURSOR FOR SELECT hidden FROM some_columns; FETCH c', '42501');
rights('EXPLAIN', 'EXPLAIN SELECT * FROM pg_authid', '42501');
rights('EXPLAIN, a subquery', 'EXPLAIN SELECT v FROM t WHERE id IN (SELECT oid::int FROM pg_authid)', '42501');
rights('EXPLAIN EXECUTE', 'DEALLOCATE ALL; PREPARE secrets AS SELECT * FROM pg_authid; EXPLAIN EXECUTE secrets', '42501');
rights('EXPLAIN ANALYZE', 'EXPLAIN (ANALYZE, COSTS off) SELECT v FROM closed_now', '42501');
rights('EXECUTE', 'PREPARE q AS SELECT v FROM closed_now; EXECUTE q', '42501');

# A change of role inside the statement, which would be lost to the session.
foreach my $local ('true', 'false')
{
	is(answer_to($alice, "SELECT becomes('reader', $local) FROM t WHERE id = 1"), '0A000', "a function that changes the role (local: $local)");
	is(answer_to($alice, 'SELECT current_user FROM t WHERE id = 1'), 'alice', 'and the role has not changed');
	is(answer_to($alice, "SELECT set_config('role', 'reader', $local), v FROM t WHERE id = 1"), 'TC001', "set_config() of a role stays (local: $local)");
}
is(answer_to($bob, q{SELECT becomes('reader', true) FROM t WHERE id = 1}), '42501', 'a role of which the user is no member any more');

# SET ROLE and SET SESSION AUTHORIZATION in a superuser's session.
is(answers_to($c, 'SET ROLE alice', 'SELECT v FROM closed_now', 'SELECT current_user FROM t WHERE id = 1', 'RESET ROLE', 'SELECT v FROM closed_now'),
	'- 42501 alice - new', 'SET ROLE by a superuser');
is(answers_to($c, 'SET SESSION AUTHORIZATION alice', 'SELECT v FROM closed_now', 'SELECT session_user FROM t WHERE id = 1',
		'RESET SESSION AUTHORIZATION', 'SELECT v FROM closed_now'),
	'- 42501 alice - new', 'SET SESSION AUTHORIZATION by a superuser');
is(answers_to($c, 'SET ROLE bob', 'SELECT v FROM secret', 'SET ROLE alice', 'SELECT v FROM secret', 'RESET ROLE'),
	'- 42501 - new -', 'one role after another');
is(answers_to($c, 'PREPARE s AS SELECT owner FROM rows_of ORDER BY 1', 'SET ROLE alice', 'EXECUTE s', 'SET ROLE bob', 'EXECUTE s', 'RESET ROLE', 'EXECUTE s'),
	"- - alice - bob - alice\nbob", 'a prepared statement under several roles');

is( answers_to($c, 'SET session_replication_role = replica', 'SET SESSION AUTHORIZATION alice', 'SELECT v FROM t WHERE id = 2',
		'RESET SESSION AUTHORIZATION', 'RESET session_replication_role'),
	'- - new - -', 'a setting that only the superuser could make, who is alice now');

# Rights that go while the connection stays.
is(answer_to($alice, 'SELECT v FROM open_now'), 'new', 'before REVOKE');
$writer->ok_query('REVOKE SELECT ON open_now FROM alice');
is(answer_to($alice, 'SELECT v FROM open_now'), '42501', 'after REVOKE');


##
## Replay goes on
##

$expected = change();
is(answer_to($c, $read), $expected, 'before replay goes on');
my $reading = TcsWire->new($standby, options => '-c tcs.redirect_after=10s -c tcs.max_wait=60s');
$reading->ok_query("SET tcs.session_token = '" . $c->parameter('tcs.session_token') . "'");
resume_replay($standby);
is(answer_to($reading, $read), $expected, 'a session with the token of a redirected read waits for what was seen');
wait_for_replay($primary, $standby);
is(answer_to($c, $read), $expected, 'when replay has come to it, the read is served here');
is($c->ok_query('SELECT outcome FROM tcs.last_read') =~ /redirected/, '', 'and not redirected');
is($look->ok_query($read), $expected, 'the standby has it all');

done_testing();
