# test/t/600_hints.pl
#
# Hints in comments: found by every way that a statement can come, in force for
# that statement alone; a malformed or misplaced one is an error, or with
# tcs.hint_errors = warning one warning, and the statement runs at the level that it
# would have had.  Together with pg_hint_plan where that is
# installed (Debian: postgresql-NN-pg-hint-plan).
#
# Replay of the standby is paused: at the level of the session a read would be
# refused, so what is served was served by its hint.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();
my $look = q{SELECT level || ' ' || concat_ws(' ', level_source, rule_id) FROM tcs.last_read};

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (1)');
wait_for_replay($primary, $standby);
wait_for_answer($standby);
pause_replay($standby);
my $token = write_token($primary, 'UPDATE t SET v = 2');
my $stale = '/* tcs(eventual) */';

# SQLSTATE of statements in one message, with the session's token and no wait.
sub state_with_token
{
	my ($sql, %opt) = @_;

	return scalar psql_err($standby, $sql, token => $token, max_wait => 0, %opt);
}


##
## Where it may stand
##

is(state_with_token('SELECT v FROM t'), 'TC001', 'without a hint');
is(state_with_token($_), '00000', $_)
  foreach (
	"$stale SELECT v FROM t",
	"  \n\t$stale SELECT v FROM t",
	"/*tcs(eventual)*/SELECT v FROM t",
	"/* TCS( Eventual ) */ SELECT v FROM t",
	"/* tcs(level=eventual) */ SELECT v FROM t",
	"-- a note\n$stale SELECT v FROM t",
	"/* a note */ $stale SELECT v FROM t",
	"/*+ SeqScan(t) */ $stale SELECT v FROM t",
	"$stale /*+ SeqScan(t) */ SELECT v FROM t",
	"/* nested /* tcs(strong) */ */ $stale SELECT v FROM t",
	"$stale WITH w AS (SELECT v FROM t) SELECT * FROM w",
	"$stale TABLE t",
	"$stale (SELECT v FROM t)",
	"EXPLAIN ANALYZE $stale SELECT v FROM t",
	"$stale EXPLAIN (ANALYZE, COSTS off) SELECT v FROM t",
	"BEGIN; $stale SELECT v FROM t; COMMIT",
	"BEGIN; DECLARE c CURSOR FOR $stale SELECT v FROM t; FETCH c; COMMIT",
	"BEGIN; $stale DECLARE c CURSOR FOR SELECT v FROM t; FETCH c; COMMIT",
	"COPY ($stale SELECT v FROM t) TO STDOUT",
	"$stale COPY t TO STDOUT",
	"PREPARE p AS $stale SELECT v FROM t; EXECUTE p; EXECUTE p",
	"PREPARE p(int) AS SELECT v FROM t WHERE v > \$1; $stale EXECUTE p(0)");
is(state_with_token($_), 'TC001', "no hint: $_")
  foreach (
	"/* do not use tcs(eventual) here */ SELECT v FROM t",
	"SELECT '/* tcs(eventual) */', v FROM t",
	"SELECT \$x\$/* tcs(eventual) */\$x\$, v FROM t",
	"/* nested /* tcs(eventual) */ */ SELECT v FROM t",
	"SELECT v FROM t /* see tcs(eventual) */",
	"SELECT v FROM t -- see /* tcs(eventual) */",
	"SELECT v, U&'-- tcs(eventual)', E'\\'/* tcs(eventual) */' AS \"/* tcs(eventual) */\" FROM t");


##
## Misplaced
##

# Not by psql, which leaves out comments before a statement.
my $client = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

foreach my $sql (
	"SELECT HINT v FROM t",
	"SELECT v FROM t HINT",
	"SELECT v FROM t\n-- tcs(eventual)",
	"SELECT v -- TCS (eventual)\nFROM t",
	"-- tcs(eventual)\nSELECT v FROM t",
	"/*+ tcs(eventual) */ SELECT v FROM t",
	"(HINT SELECT v FROM t)",
	"WITH w AS (HINT SELECT v FROM t) SELECT * FROM w",
	"HINT SELECT v FROM t HINT",
	"HINT EXPLAIN ANALYZE HINT SELECT v FROM t",
	"EXPLAIN (ANALYZE HINT) SELECT v FROM t",
	"EXPLAIN ANALYZE SELECT HINT v FROM t",
	"COPY HINT t TO STDOUT",
	"COPY t TO STDOUT HINT",
	"DO HINT \$\$ BEGIN PERFORM v FROM t; END \$\$",
	"PREPARE p AS SELECT v FROM t HINT",
	"PREPARE p(int) AS SELECT v FROM t; EXECUTE p HINT (0)",
	"BEGIN; DECLARE c HINT CURSOR FOR SELECT v FROM t",
	"SELECT 1; SELECT v FROM t HINT",
	"SELECT 'a;', '/* tcs(eventual) */'; SELECT v FROM t HINT; SELECT 1",
	"SELECT 1 HINT",
	# no statement at all
	"HINT ; SELECT v FROM t",
	"/* a note */ ;; HINT\n;; SELECT v FROM t",
	"HINT HINT; SELECT v FROM t; SELECT 1",
	"SELECT v FROM t; HINT",
	"SELECT v FROM t; -- a note;\n HINT ;",
	"SELECT 1; HINT ; HINT SELECT v FROM t",
	"-- tcs(eventual)\n; SELECT v FROM t",
	"SELECT v FROM t;\n-- tcs(eventual)",
	"/*+ tcs(eventual) */; SELECT v FROM t",
	"BEGIN; HINT; SELECT v FROM t; COMMIT",
	"HINT; SET work_mem = '1MB'; SELECT v FROM t",
	"SHOW work_mem; HINT ; SELECT v FROM t",
	"HINT; COPY t TO STDOUT",
	"SELECT 1; HINT; DECLARE c CURSOR WITH HOLD FOR SELECT v FROM t",
	"HINT BEGIN",
	"HINT START TRANSACTION READ ONLY",
	"BEGIN; DECLARE c CURSOR FOR SELECT 1; HINT FETCH c",
	"/* tcs(write_level=strong) */ COMMIT",
	"/* tcs(write_level=strong) */ SET work_mem = '1MB'")
{
	foreach my $hint ('/* tcs(eventual) */', '/*TCS( eventual, max_wait=1)*/')
	{
		my $text = $sql =~ s/HINT/$hint/gr;
		my ($failed) = grep { $_->{state} ne '00000' } $client->query($text);

		is($failed && $failed->{state}, '22023', "misplaced: $text");
		like(substr($text, ($failed->{error}{P} // $failed->{error}{p} // 0) - 1), qr{^(/\*|--)\+? ?tcs ?\(}i, '... with its place');
		$client->query('ROLLBACK; DEALLOCATE ALL');
		last if $sql !~ /HINT/;
	}
}
{
	my ($failed) = grep { $_->{state} ne '00000' } $client->query('/* tcs(strnog) */ ; SELECT v FROM t');

	is($failed && $failed->{state}, '22023', 'a malformed hint before an empty statement');
	foreach my $sql ("/* tcs(eventual) */; SELECT v FROM t WHERE v > \$1", "SELECT v FROM t WHERE v > \$1; /* tcs(eventual) */")
	{
		my ($result) = grep { $_->{state} ne '00000' } $client->extended($sql, 0)->sync->results;

		is($result && $result->{state}, '22023', "extended protocol: $sql");
	}
	is((grep { $_->{state} ne '00000' } $client->query($_))[0], undef, "no hint, and nothing misplaced: $_")
	  foreach (
		";; -- see tcs(eventual)\n; $stale SELECT v FROM t; /* see tcs(eventual) */ ; -- ; tcs(eventual)",
		"SELECT '; /* tcs(eventual) */ ;' FROM t; ;;$stale SELECT v FROM t;",
		"/* /* tcs(eventual) */ ; */; SELECT v FROM t;; ; SELECT 1;");
}
is(psql_err($standby, $_, level => 'eventual'), '00000', "a hint that does nothing, and has nothing to do: $_")
  foreach ('/* tcs(strong) */ SHOW work_mem', "/* tcs(strong) */ SET work_mem = '1MB'", '/* tcs(strong) */ COMMIT',
	"BEGIN; /* tcs(stong) */ ROLLBACK", '/* tcs(strong) */ SELECT 1');
is(psql_err($primary, $_), '22023', "misplaced on the primary: $_")
  foreach (
	'CREATE VIEW never AS /* tcs(strong) */ SELECT v FROM t',
	'CREATE FUNCTION never() RETURNS int BEGIN ATOMIC SELECT 1; /* tcs(strong) */ SELECT v FROM t; END',
	'UPDATE t SET v = v /* tcs(write_level=strong) */',
	'INSERT INTO t SELECT v /* tcs(strong) */ FROM t',
	'/* tcs(write_level=session) */ CREATE TABLE never (a int)');
{
	my $warning = { 'tcs.hint_errors' => 'warning' };
	my ($state, $err, $out) =
	  psql_err($standby, "SELECT v FROM t /* tcs(strong) */", level => 'eventual', set => $warning);

	is("$state $out", '00000 1', 'tcs.hint_errors = warning: it runs');
	like($err, qr/WARNING:  22023: ignoring misplaced hint.*LINE 1:/s, '... with a warning');
	is(psql_err($standby, "$_ SELECT v FROM t", level => 'eventual', set => $warning),
		'22023', "... but not without a token: $_")
	  foreach ("SELECT 1 /* tcs(session_token='$token') */;", "/*+ tcs(session_token='$token') */",
		"/* tcs(session_token='garbage') */", "/* tcs(stong, session_token='$token') */",
		"/* tcs(session_token='$token') */", "/* tcs(max_wait=0) */ /* tcs(session_token='$token') */",
		"/* tcs(session_token='$token') */ EXPLAIN /* tcs(max_wait=0) */",
		"/* tcs(max_wait=0) */ EXPLAIN ANALYZE /* tcs(session_token='$token') */",
		"/* tcs(token='$token') */", "/* tcs(strong, token = $token) */", "/* tcs('$token') */", "/*+ tcs($token) */");

	$client->ok_query("SET tcs.hint_errors = 'warning'");
	foreach my $sql ("/* tcs(session_token='$token') */ ; SELECT v FROM t", "SELECT v FROM t; /* tcs('$token') */")
	{
		my ($failed) = grep { $_->{state} ne '00000' } $client->query($sql);

		is($failed && $failed->{state}, '22023', "... or without a statement: $sql");
	}
	@{ $client->{notices} } = ();
	my @warned = $client->query("/* tcs(strong) */ ; /* tcs(bounded, max_staleness=1h, max_wait=0) */ SELECT 1 FROM t; SELECT 2 FROM t");

	is(join(' ', map { $_->{state} } @warned), '00000 00000', 'a hint beside a statement can be a warning');
	is(scalar(grep { $_->{S} eq 'WARNING' } $client->notices), 1, '... a single one');
	is(($client->query('SELECT level FROM tcs.last_read'))[0]{state}, '00000', '... and the session goes on');
	$client->ok_query('RESET tcs.hint_errors');
}


##
## Its own statement only
##

{
	my $session = TcsWire->new($standby, options => '-c tcs.max_wait=0');

	$session->ok_query("SET tcs.session_token = '$token'");
	is((($session->query("$stale SELECT v FROM t; SELECT v FROM t"))[-1])->{state}, 'TC001',
		'not the next one of the message');
	is((($session->query("SELECT 1; $stale SELECT v FROM t"))[-1])->{state}, '00000', 'the second one has its own');
	is((($session->query("SELECT ';/*'; /* ; */ $stale SELECT v FROM t"))[-1])->{state}, '00000',
		'semicolons in literals and comments');
	is((($session->query("SELECT 1; $stale"))[-1])->{state}, '22023', 'a hint before nothing');
	is((($session->query('SELECT v FROM t'))[0])->{state}, 'TC001', 'nothing is left of it');

	# extended protocol, prepared, with generic and custom plans
	$session->parse('', "$stale SELECT v FROM t")->bind('', '')->execute('')->sync;
	is(TcsWire::describe_result($session->results), '1', 'extended protocol');
	foreach my $mode ('force_generic_plan', 'force_custom_plan', 'auto')
	{
		$session->ok_query("SET plan_cache_mode = $mode");
		$session->parse("p_$mode", "$stale SELECT v FROM t WHERE v < \$1", 23)->sync;
		$session->results;
		foreach (1 .. 7)
		{
			$session->bind('', "p_$mode", '10')->execute('')->sync;
			is(TcsWire::describe_result($session->results), '1', "prepared, $mode");
		}
		is($session->ok_query($look), 'eventual hint', '... by its hint');
	}

	# what it says besides the level
	is($session->ok_query("/* tcs(session, fallback='eventual, error') */ SELECT v FROM t"), '1', 'fallback');
	is(scalar(grep { /read served at level "eventual" instead of "session"/ } map { $_->{M} // $_->{message} // $_ } $session->notices),
		1, '... with its warning') or diag explain [ $session->notices ];
	$session->ok_query("SET tcs.session_token = ''");
	is($session->ok_query('/* tcs(bounded, max_staleness=1h) */ SELECT v FROM t'), '1', 'a bound');
	is((($session->query('/* tcs(bounded, max_staleness=0) */ SELECT v FROM t'))[0])->{state}, 'TC004',
		'... that is not met');
	$session->disconnect;
}

is(state_with_token('/* tcs(max_wait=0) */ SELECT v FROM t', max_wait => -1), 'TC001', 'max_wait');
is(state_with_token("/* tcs(session) */ SELECT v FROM t", level => 'eventual'), 'TC001', 'a stronger level than the session has');
is(state_with_token("$stale SELECT v FROM t", set => { 'tcs.hints' => 'off' }), 'TC001', 'tcs.hints = off');


##
## A token in the hint
##

{
	my $hint = "/* tcs(session_token='$token', max_wait=0) */";

	is(psql_err($standby, "SET tcs.hints = 'all'; $hint SELECT v FROM t"), 'TC001', 'the token of a hint counts');
	is(psql_err($standby, "SET tcs.hints = 'all'; $hint SELECT v FROM t; SELECT v FROM t",
			on_error_stop => 0),
		'00000', '... for its statement alone');
	is(psql_err($standby, "SET tcs.hint_errors = '$_'; $hint SELECT v FROM t"),
		'22023', "... and is an error without tcs.hints = all, tcs.hint_errors = $_")
	  foreach qw(error warning);
	is(psql_err($standby, "SET tcs.hints = 'all'; SET tcs.hint_errors = '$_'; /* tcs(session_token='garbage') */ SELECT v FROM t"),
		'22023', "... as is one that is none, tcs.hint_errors = $_")
	  foreach qw(error warning);
}


##
## Malformed
##

foreach my $hint (
	'tcs(nonsense)', 'tcs()', 'tcs(', 'tcs(strong', 'tcs(strong,)', 'tcs(strong, strong)', 'tcs(snapshot)',
	'tcs(max_wait=soon)', 'tcs(max_wait=-2)', 'tcs(max_staleness=-1)', "tcs(fallback='nowhere')", "tcs(fallback='error)",
	'tcs(write_level=default)', 'tcs(write_level=strong, write_level=strong)',
	'tcs(colour=red)', 'tcs(max_wait=1, max_wait=2)', 'tcs(strong) and more', "tcs(str\xc3\xb6ng)")
{
	my ($state, $err, $out) = psql_err($standby, "/* $hint */ SELECT v FROM t", level => 'eventual');

	is("$state $out", '22023 ', "$hint: an error");
	like($err, qr/^LINE 1:/m, '... with its place');
	is(psql_err($standby, "/* $hint */ SELECT 1"), '22023', '... also where nothing is read');
	($state, $err, $out) = psql_err($standby, "/* $hint */ SELECT v FROM t; $look",
		level => 'eventual', set => { 'tcs.hint_errors' => 'warning' });
	is($state, '00000', "$hint: the statement runs");
	is($out, "1\neventual session", '... at the level it would have had');
	is(scalar(() = $err =~ /WARNING:  22023/g), 1, '... with one warning') or diag $err;
}

# An error has no warning of a hint beside it that there is not.
my $long = 'x' x 1_000_000;
is(state_with_token("/* $long */ $stale SELECT v FROM t"), '00000', 'a comment of 1 MB before it');
is(state_with_token("/* tcs(eventual $long) */ SELECT v FROM t", level => 'eventual', set => { 'tcs.hint_errors' => 'warning' }),
	'00000', '... and a malformed one');
is(state_with_token("/* \xc3\xa4\xe2\x82\xac */ $stale SELECT '\xc3\xa4', v FROM t"), '00000', 'text that is not ASCII');


##
## Beside pg_hint_plan
##

SKIP:
{
	my $session = TcsWire->new($standby, options => '-c tcs.max_wait=0');
	my ($loaded) = $session->query("LOAD 'pg_hint_plan'");

	skip 'pg_hint_plan is not installed', 2 if $loaded->{state} ne '00000';
	$session->ok_query("SET tcs.session_token = '$token'; SET enable_seqscan = on");
	foreach my $both ("$stale /*+ Set(enable_seqscan off) */", "/*+ Set(enable_seqscan off) */ $stale")
	{
		like($session->ok_query("$both EXPLAIN SELECT v FROM t"), qr/cost=10000000000|Disabled: true/, "both count: $both");
		is($session->ok_query("$both SELECT v FROM t"), '1', '... and the level');
	}
	$session->disconnect;
}

done_testing();
