# test/t/610_hint_places.pl
#
# Hints: a comment "tcs(...)" before a statement decides how fresh that statement
# has to be, and no other.  Which level was in force is told by tcs.last_read;
# that it was really in force is shown on a standby whose replay stands still,
# where a level of the session would fail and "eventual" passes, or the other
# way round.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsRules;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair(init => { extra => ['--encoding=UTF8'] });

$primary->safe_psql(
	'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0);
CREATE FUNCTION one_read() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT v FROM t); END$$;
CREATE PROCEDURE p_read(INOUT r int) LANGUAGE plpgsql AS
	$$BEGIN r := (SELECT v FROM t); END$$;
});
my $value = 0;
my $writer = TcsWire->new($primary);

wait_for_replay($primary, $standby);
wait_for_answer($standby);

my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $last = 'SELECT level, level_source FROM tcs.last_read';
my $strong = '/* tcs(strong) */';
my $read = 'SELECT v FROM t';

sub hint_client
{
	my ($set, $node) = @_;
	my $client = TcsWire->new($node // $standby);

	$client->ok_query($set) if defined $set;
	return $client;
}

# Warnings since the last call.
sub warnings_of
{
	my ($client) = @_;
	my @warnings = grep { $_->{S} eq 'WARNING' } $client->notices;

	@{ $client->{notices} } = ();
	return @warnings;
}

# A field of the last of them.
sub last_warning
{
	my ($client, $field) = @_;
	my @warnings = warnings_of($client);

	return @warnings ? $warnings[-1]{$field} : undef;
}

# The next write.
my $write_next = counted_write(\$value, 'UPDATE t SET v = %d');


##
## Where a hint stands, and what is none
##

my $c = hint_client(q{SET client_encoding = 'UTF8'});
my $session = $c->ok_query("$read; $last");

is($session, 'session|default', 'without a hint');

foreach my $sql (
	"$strong $read",
	"/*tcs(strong)*/$read",
	" \n\t/* \n TCS ( Strong ) \n */\r\n$read",
	"/* tcs(level=strong) */ $read",
	"/* tcs( LEVEL = 'strong' ) */ $read",
	"/* tcs(strong, max_wait=200ms, fallback='redirect, error') */ $read",
	"/* tcs(strong, max_wait=-1) */ $read",
	"/* tcs(strong, max_staleness=2) */ $read",
	"/* a comment */ $strong $read",
	"$strong /* a comment */ $read",
	"-- it's one of a line; /* tcs(eventual)\n$strong\n-- another\n$read",
	"/* /* nested */ tcs(eventual) */ $strong $read",
	"/*+ SeqScan(t) */ $strong $read",
	"$strong /*+ SeqScan(t) */ $read",
	"/* \x{c3}\x{bc} tcs(eventual) */ $strong SELECT v AS \"\x{c3}\x{a4}\" FROM t",
	'/* ' . ('x' x 1048576) . " */ $strong $read",
	"$strong WITH x AS (SELECT v FROM t) SELECT * FROM x",
	"$strong TABLE t",
	"$strong (SELECT v FROM t) UNION SELECT 1",
	"$strong VALUES ((SELECT v FROM t))",
	"$strong SELECT v, '/* tcs(eventual) */' FROM t",
	";; $strong $read;;",)
{
	is(level_of($c, $sql), 'strong|hint', 'hint: ' . substr($sql, 0, 100));
	is(scalar warnings_of($c), 0, '... without a warning');
}
is(level_of($c, $read), $session, 'it is gone with its statement');
is($c->ok_query("$strong SHOW tcs.read_level"), 'session', '... and is no setting');

foreach my $sql (
	"/* say tcs(strong) */ $read",
	"/* /* tcs(strong) */ */ $read",
	"/* tcs strong */ $read",
	"/* tcsx(strong) */ $read",
	"SELECT v, '$strong' FROM t",
	"SELECT v, \$\$ $strong \$\$ FROM t",
	"SELECT v, \$a\$ ; $strong $read \$a\$ FROM t",
	"SELECT v, E'\\'; $strong ' FROM t",
	"SELECT v AS \"; $strong \" FROM t",
	'/* ' . ('x' x 524288) . 'tcs(strong)' . ('x' x 524288) . " */ $read",)
{
	is(level_of($c, $sql), $session, 'no hint: ' . substr($sql, 0, 100));
	is(scalar warnings_of($c), 0, '... and no warning');
}


##
## Statements that contain a query
##

my %inside = (
	'EXPLAIN ANALYZE' => "EXPLAIN ANALYZE HINT $read",
	'EXPLAIN ANALYZE VERBOSE' => "EXPLAIN ANALYZE VERBOSE HINT $read",
	'EXPLAIN with options' => "EXPLAIN (ANALYZE, FORMAT 'json', COSTS off) HINT $read",
	'EXPLAIN of a query in parentheses' => "EXPLAIN (ANALYZE) HINT ($read)",
	'DECLARE' => "BEGIN; DECLARE c CURSOR FOR HINT $read; FETCH c; COMMIT",
	'DECLARE with options' =>
	  "BEGIN; DECLARE \"for\" INSENSITIVE CURSOR WITH HOLD FOR HINT $read; COMMIT; CLOSE \"for\"",
	'COPY' => "COPY (HINT $read) TO STDOUT",
	'PREPARE' => "PREPARE p AS HINT $read; EXECUTE p; DEALLOCATE p",
	'PREPARE with types' =>
	  "PREPARE p(int, numeric(3,1)) AS HINT $read WHERE id = \$1; EXECUTE p(1, 2); DEALLOCATE p",);

foreach my $what (sort keys %inside)
{
	my $sql = $inside{$what};

	is(level_of($c, $sql =~ s/HINT/$strong/r), 'strong|hint', "$what: hint before its query");
	is(level_of($c, $sql =~ s/HINT//r), $session, "$what: without a hint");
	if ($what !~ /DECLARE/)
	{
		is(level_of($c, "$strong " . $sql =~ s/HINT//r), 'strong|hint', "$what: hint before its first word");
		is(level_of($c, '/* tcs(eventual) */ ' . $sql =~ s/HINT/$strong/r),
			'22023', "$what: not two");
		$c->query('DEALLOCATE ALL');
	}
	is(scalar warnings_of($c), 0, '... without a warning');
}
is(level_of($c, "BEGIN; $strong DECLARE c CURSOR FOR $read; FETCH c; COMMIT"),
	'strong|hint', 'DECLARE: hint before its first word');
is(level_of($c, "$strong CALL p_read(NULL)"), 'strong|hint', 'CALL');
is(level_of($c, "$strong DO 'BEGIN PERFORM one_read(); END'"), 'strong|hint', 'DO');
is(level_of($c, "$strong SELECT one_read()"), 'strong|hint', 'a function');

# What runs a prepared statement can have a hint, too.
$c->ok_query("PREPARE plain AS $read");
is(level_of($c, "$strong EXECUTE plain"), 'strong|hint', 'EXECUTE with a hint');
is(level_of($c, 'EXECUTE plain'), $session, '... and without');
is(level_of($c, "EXPLAIN ANALYZE $strong EXECUTE plain"), 'strong|hint', 'EXPLAIN EXECUTE with a hint');

# The text of a prepared statement is not that of the string that runs it.
$c->ok_query("SELECT 1; PREPARE hinted AS $strong $read; SELECT 2");
$c->ok_query("SELECT 1; $strong SELECT 2; PREPARE beside AS $read");
foreach my $mode ('auto', 'force_generic_plan', 'force_custom_plan')
{
	$c->ok_query("SET plan_cache_mode = $mode");
	foreach my $i (1 .. 7)
	{
		is(level_of($c, 'EXECUTE hinted'), 'strong|hint', "PREPARE with a hint, $mode, $i");
		is(level_of($c, 'EXECUTE beside'), $session, '... one beside a hint');
	}
}
$c->ok_query('RESET plan_cache_mode');
is(level_of($c, 'EXPLAIN ANALYZE EXECUTE hinted'), 'strong|hint', '... by EXPLAIN');


##
## Extended protocol
##

is(first_error($c->extended("$strong $read")->sync->results), '00000', 'extended protocol');
is($c->ok_query($last), 'strong|hint', '... with a hint');
is(first_error($c->extended($read)->sync->results), '00000', '... and without');
is($c->ok_query($last), $session, '... at the level of the session');
is(answers($c->extended("$strong $read")->extended($last)->extended($read)->extended($last)->sync->results),
	"$value / strong|hint / $value / $session", '... in a pipeline');

foreach my $mode ('auto', 'force_generic_plan')
{
	$c->ok_query("SET plan_cache_mode = $mode");
	$c->parse("h_$mode", "$strong $read WHERE id = \$1")->parse("n_$mode", "$read WHERE id = \$1")->sync->results;
	foreach my $i (1 .. 7)
	{
		is(answers($c->bind('', "h_$mode", 1)->execute('')->sync->results), $value, "prepared, $mode, $i");
		is($c->ok_query($last), 'strong|hint', '... with a hint');
		is(answers($c->bind('', "n_$mode", 1)->execute('')->sync->results), $value, '... one without');
		is($c->ok_query($last), $session, '... at the level of the session');
	}
}
$c->ok_query('RESET plan_cache_mode');
is(scalar warnings_of($c), 0, '... without a warning');

# A portal that is read a few rows at a time.
is( answers(
		$c->query('BEGIN'),
		$c->parse('', "$strong SELECT v FROM t, generate_series(1, 3)")->bind('few', '')
		  ->execute('few', 1)->execute('few', 1)->sync->results,
		$c->query("$last; COMMIT")),
	" / $value / $value / strong|hint / ",
	'a portal with a hint');


##
## Several statements in a string
##

is( answers($c->query("$strong $read; $last; $read; $last; /* tcs(eventual) */ $read; $last")),
	"$value / strong|hint / $value / $session / $value / eventual|hint",
	'several statements: each has its own');
is( answers($c->query("$read; $last;\n-- ;\n$strong\n-- a;\n$read;\n$last; $strong $read; $last")),
	"$value / $session / $value / strong|hint / $value / strong|hint",
	'... over several lines');
is( answers(
		$c->query(
			"SELECT ';' || E'\\';' || \$\$ ; /* \$\$;/* ; */ $strong $read;$last;$read/* eventual */;$last")),
	";'; ; /*  / $value / strong|hint / $value / $session",
	'... with semicolons in literals and comments');

# The query inside begins nowhere as far as core can tell, or where the message does.
foreach my $what (sort keys %inside)
{
	my $plain = $inside{$what} =~ s/HINT//r;

	is(level_of($c, "$strong $read; $plain"), $session, "$what behind a statement with a hint");
	is(level_of($c, "SELECT 1; " . $inside{$what} =~ s/HINT/$strong/r),
		'strong|hint', '... with a hint behind one without');
	is(level_of($c, $inside{$what} =~ s/HINT/$strong/r . "; $read"), $session, '... before one without');
}
is( answers($c->query("SET standard_conforming_strings = on; SELECT 'a\\'; $strong $read; $last")),
	" / a\\ / $value / strong|hint",
	'standard_conforming_strings');
SKIP:
{
	skip 'strings always conform', 2 if server_version($standby) >= 19;

	$c->ok_query('SET standard_conforming_strings = off; SET escape_string_warning = off');
	is(answers($c->query("SELECT 'a\\';'; $strong $read; $last")),
		"a'; / $value / strong|hint", '... switched off');

	# Parsed with the one, run with the other: a hint is missed rather than made up.
	my ($level) =
	  ($c->query("SET standard_conforming_strings = on; SELECT 'a\\'; $strong $read; --'; $read; $last"))[-1];

	is(answers($level), $session, '... within the string');
	$c->ok_query('RESET ALL');
}
is( answers(
		$c->query(
			'SELECT 1 AS ' . ('x' x 70) . "; PREPARE " . ('y' x 70) . " AS $strong $read; EXECUTE " . ('y' x 70) . "; $last; DEALLOCATE ALL")),
	"1 /  / $value / strong|hint / ",
	'names that are cut');
is(scalar(grep { $_->{C} eq '42622' } $c->notices), 3, '... are told once each');
warnings_of($c);

# Many of them are read in a time that one does not notice.
my @results = $c->query(join(";\n", map { "$strong SELECT $_ FROM t" } 1 .. 500));
is(scalar(grep { $_->{state} eq '00000' } @results), 500, '500 statements with hints');


##
## Malformed hints
##

# [ hint with a ^ before the place that is pointed at, DETAIL ]
my @malformed = (
	[ '/* tcs(^) */', qr/hint is empty/ ],
	[ '/* tcs( ^*/', qr/hint is empty/ ],
	[ '/* tcs(^, strong) */', qr/An item is empty/ ],
	[ '/* tcs(strong,^) */', qr/An item is empty/ ],
	[ '/* tcs(^stong) */', qr/invalid read level: "stong"/i ],
	[ '/* tcs(level=^stong) */', qr/invalid read level: "stong"/i ],
	[ '/* tcs(level=^) */', qr/A value is empty/ ],
	[ '/* tcs(^snapshot) */', qr/property of a transaction/ ],
	[ '/* tcs(level=^snapshot) */', qr/property of a transaction/ ],
	[ '/* tcs(strong, ^eventual) */', qr/"eventual" has no value/ ],
	[ '/* tcs(max_wait=1s, ^strong) */', qr/has to be the first/ ],
	[ '/* tcs(strong, ^level=strong) */', qr/"level" is set twice/ ],
	[ '/* tcs(max_wait=1, ^MAX_WAIT=1) */', qr/set twice/ ],
	[ '/* tcs(max_wait=^) */', qr/A value is empty/ ],
	[ '/* tcs(max_wait=^2parsecs) */', qr/"2parsecs" is not a value for "max_wait"/ ],
	[ '/* tcs(max_wait=^-2) */', qr/-2 ms is outside/ ],
	[ '/* tcs(max_wait=^99999999999) */', qr/not a value for "max_wait"/ ],
	[ '/* tcs(max_staleness=^-1) */', qr/-1 ms is outside/ ],
	[ '/* tcs(^max_lag=1) */', qr/"max_lag" cannot be set in a hint/ ],
	[ "/* tcs(strong, ^\x{c3}\x{bc}=1) */", qr/cannot be set in a hint/ ],
	[ "/* \x{c3}\x{bc} */ /* tcs(strong, ^x=1) */", qr/cannot be set in a hint/ ],
	[ q{/* tcs(fallback=^'nowhere') */}, qr/"nowhere" is not a step/ ],
	[ "/* tcs(fallback=^'" . ('x' x 62) . "\x{c3}\x{bc}') */", qr/"x{62}" is not a step/ ],
	[ q{/* tcs(fallback='^') */}, qr/A value is empty/ ],
	[ q{/* tcs(fallback=^'error) */}, qr/quote is not closed/ ],
	[ q{/* tcs(^'strong') */}, qr/does not begin with a name/ ],
	[ '/* tcs(strong ^*/', qr/closing parenthesis is missing/ ],
	[ '/* tcs(strong ^/* nested */) */', qr/closing parenthesis is missing/ ],
	[ '/* tcs(strong) ^please */', qr/behind the closing parenthesis/ ],
	[ '/* tcs(strong) */ ^/* tcs(strong) */', qr/another hint/ ],
	[ q{/* tcs(session_token=^'1.2') */}, qr/only if tcs.hints is "all"/ ],
	[ '/* tcs(strong=1, ' . ('x' x 100000) . ') */', qr/"strong" cannot be set/, 8 ],
	[ '/* tcs(' . ('x' x 100000) . ') */', qr/invalid read level: "x{1,100}\.\.\."/i, 8 ],);

is($c->ok_query('SHOW tcs.hint_errors'), 'error', 'what is wrong with a hint is an error');
foreach my $case (@malformed)
{
	my ($hint, $detail, $position) = @$case;
	my $characters = $hint;

	utf8::decode($characters);
	$position //= index($characters, '^') + 1;
	$hint =~ s/\^//;

	my ($failed) = $c->query("$hint $read");

	is($failed->{state}, '22023', 'an error: ' . substr($hint, 0, 60));
	is($failed->{error}{P}, $position, '... its position');
	like($failed->{error}{D}, $detail, '... its detail');
	($failed) = $c->extended("$hint $read")->sync->results;
	is($failed->{state}, '22023', '... also by the extended protocol');
	is($failed->{error}{P}, $position, '... with its position');
	next if $hint =~ /session_token/;

	$c->ok_query("SET tcs.hint_errors = 'warning'");
	is(level_of($c, "$hint $read"), $session, 'malformed: ' . substr($hint, 0, 60));
	my @warnings = warnings_of($c);

	is(scalar @warnings, 1, '... one warning');
	is($warnings[0]{C}, '22023', '... its SQLSTATE');
	is($warnings[0]{P}, $position, '... its position');
	like($warnings[0]{D}, $detail, '... its detail');
	isnt($warnings[0]{H}, undef, '... its hint');
	$c->ok_query('RESET tcs.hint_errors');
}

# The other ways in: one warning each, too.
foreach my $what (sort keys %inside)
{
	my $sql = $inside{$what} =~ s{HINT}{/* tcs(stong) */}r;
	my ($failed) = grep { $_->{state} ne '00000' } $c->query($sql);

	is($failed->{state}, '22023', "an error: $what");
	is($failed->{error}{P} // $failed->{error}{p}, index($sql, 'stong') + 1, '... its position');
	$c->query('ROLLBACK');
	$c->query('DEALLOCATE ALL');
	warnings_of($c);
	$c->ok_query("SET tcs.hint_errors = 'warning'");
	is(level_of($c, $sql), $session, "malformed: $what");
	my @warnings = warnings_of($c);

	is(scalar @warnings, $what =~ /PREPARE/ ? 2 : 1, '... one warning for each call') or diag(explain(\@warnings));
	is($warnings[0]{P} // $warnings[0]{p}, index($sql, 'stong') + 1, '... its position');
	$c->ok_query('RESET tcs.hint_errors');
}
$c->ok_query("SET tcs.hint_errors = 'warning'");
is(first_error($c->extended("/* tcs(stong) */ $read")->sync->results), '00000', 'malformed: extended protocol');
is(scalar warnings_of($c), 1, '... one warning');
is(level_of($c, "$read; /* tcs(stong) */ $read; $read"), $session, 'malformed: in a string');
is(scalar warnings_of($c), 1, '... one warning');
is(level_of($c, "$strong $read; /* tcs(eventual) */"), 'strong|hint', 'beside a statement: its own hint counts');
is(scalar warnings_of($c), 1, '... one warning');
is(level_of($c, "$strong EXPLAIN ANALYZE /* tcs(stong) */ $read"),
	$session, 'two of them: neither counts');
is(scalar warnings_of($c), 1, '... one warning');

# Of what was malformed, nothing is kept.
is($c->ok_query("/* tcs(max_wait=1, stong) */ SHOW tcs.max_wait"), '1s', 'nothing is set by a malformed one');
warnings_of($c);


##
## tcs.hints
##

$c->ok_query('RESET tcs.hint_errors; SET tcs.hints = off');
$c->ok_query("PREPARE made_while_off AS $strong $read");
is(level_of($c, 'EXECUTE made_while_off'), $session, 'tcs.hints = off: EXECUTE') foreach 1 .. 7;
$c->ok_query('SET tcs.hints = on');
is(level_of($c, 'EXECUTE made_while_off'), 'strong|hint', '... and on again');
$c->ok_query('SET tcs.hints = off');
$c->parse('made_off', "$strong $read")->sync->results;
$c->bind('', 'made_off')->execute('')->sync->results foreach 1 .. 7;
$c->ok_query('SET tcs.hints = on');
$c->bind('', 'made_off')->execute('')->sync->results;
is($c->ok_query($last), 'strong|hint', '... by the protocol');

foreach my $hint ($strong, '/* tcs(stong) */', '/* tcs() */')
{
	$c->ok_query('SET tcs.hints = off');
	is(level_of($c, "$hint $read"), $session, "tcs.hints = off: $hint");
	is(level_of($c, "EXPLAIN ANALYZE $hint $read"), $session, '... EXPLAIN');
	is(scalar warnings_of($c), 0, '... without a warning');
	$c->ok_query('SET tcs.hints = on');
}
is(level_of($c, "$strong $read"), 'strong|hint', 'tcs.hints = on');
is(first_error($c->query('SET tcs.hints = maybe')), '22023', 'tcs.hints has no other values');


##
## A standby that lags: which level is in force decides
##

$look->stop_replay;
my $old = $look->ok_query($read);
my $token = $write_next->($writer);
my $careful = hint_client("SET tcs.session_token = '$token'; SET tcs.max_wait = 20; SET tcs.fallback = 'error'");
my $careless = hint_client(
	"SET tcs.session_token = '$token'; SET tcs.max_wait = 20; SET tcs.fallback = 'error'; SET tcs.read_level = 'eventual'");

isnt($old, $value, 'the standby lags');

my %forms = (
	%inside,
	'SELECT' => "HINT $read",
	'WITH' => "HINT WITH x AS ($read) SELECT * FROM x",
	'a query in parentheses' => "HINT ($read)",
	'TABLE' => 'HINT TABLE t',
	'a function' => 'HINT SELECT one_read()',
	'CALL' => 'HINT CALL p_read(NULL)',
	'DO' => q{HINT DO 'BEGIN PERFORM one_read(); END'},
	'EXPLAIN ANALYZE with the hint before it' => "HINT EXPLAIN ANALYZE $read",
	'COPY with the hint before it' => "HINT COPY ($read) TO STDOUT",
	'PREPARE with the hint before it' => "HINT PREPARE p AS $read; EXECUTE p; DEALLOCATE p",
	'EXECUTE' => "PREPARE p AS $read; HINT EXECUTE p; DEALLOCATE p",
	'behind another statement' => "SELECT 1; HINT $read",);

foreach my $what (sort keys %forms)
{
	my $sql = $forms{$what};

	foreach my $case (
		[ $careful, '', 'TC001' ],
		[ $careful, '/* tcs(eventual) */', '00000' ],
		[ $careful, '/* tcs(session) */', 'TC001' ],
		[ $careful, '/* tcs(stong) */', '22023' ],
		[ $careless, '', '00000' ],
		[ $careless, '/* tcs(eventual) */', '00000' ],
		[ $careless, '/* tcs(session) */', 'TC001' ],
		[ $careless, '/* tcs(stong) */', '22023' ],)
	{
		my ($client, $hint, $state) = @$case;
		my $session_level = $client == $careful ? 'session' : 'eventual';

		is(first_error($client->query($sql =~ s/HINT/$hint/r)), $state, "$what: '$hint' in $session_level");
		$client->query('ROLLBACK') if $client->status ne 'I';
		$client->ok_query('DEALLOCATE ALL');
		warnings_of($client);
	}
}

is(answers($careful->query("/* tcs(eventual) */ $read")), $old, 'a hint to weaken: the old value');
is(answers($careful->query("/* tcs(eventual) */ $read; $read")), "$old / TC001", '... for its own statement');
foreach my $what (sort keys %inside)
{
	is(first_error($careful->query("/* tcs(eventual) */ $read; " . $inside{$what} =~ s/HINT//r)),
		'TC001', "... not for $what");
	$careful->query('ROLLBACK') if $careful->status ne 'I';
	$careful->ok_query('DEALLOCATE ALL');
}
is(answers($careless->query("/* tcs(session) */ $read")), 'TC001', 'a hint to strengthen');
is(answers($careless->query("$read; /* tcs(session) */ $read")), "$old / TC001", '... for its own statement');

foreach my $mode ('auto', 'force_generic_plan')
{
	$careful->ok_query("SET plan_cache_mode = $mode");
	$careful->parse("e_$mode", "/* tcs(eventual) */ $read WHERE id = \$1")
	  ->parse("s_$mode", "$read WHERE id = \$1")->sync->results;
	foreach my $i (1 .. 7)
	{
		is(answers($careful->bind('', "e_$mode", 1)->execute('')->sync->results),
			$old, "prepared, $mode, $i: with a hint");
		is(answers($careful->bind('', "s_$mode", 1)->execute('')->sync->results), 'TC001', '... and without');
	}
}
$careful->ok_query('RESET plan_cache_mode');

# In a transaction
is(answers($careful->query('BEGIN')), '', 'in a transaction');
is(answers($careful->query("/* tcs(eventual) */ $read")), $old, '... a hint to weaken');
is(answers($careful->query("SAVEPOINT s; $read")), ' / TC001', '... which is not the transaction\'s');
is(answers($careful->query("ROLLBACK TO s; /* tcs(eventual) */ $read; COMMIT")), " / $old / ", '... but each statement\'s');

# What else a hint says
is(answers($careless->query("/* tcs(session, fallback='eventual, error') */ $read")), $old, 'fallback of a hint');
like(last_warning($careless, 'M'), qr/served at level "eventual" instead of "session"/, '... is told');
is(answers($careless->query("/* tcs(session) */ $read")), 'TC001', '... and is the hint\'s');
is(answers($careful->query("/* tcs(fallback=eventual) */ $read")), $old, 'a hint without a level');
is($careful->ok_query($last) =~ s/\|.*//r, 'session', '... leaves the level');
warnings_of($careful);
is(answers($careful->query("/* tcs(bounded, max_staleness=1h) */ $read")), 'TC001',
	'max_staleness: a token counts at level bounded, too');
my $bare = hint_client(q{SET tcs.max_wait = 20; SET tcs.fallback = 'error'});
is(answers($bare->query("/* tcs(bounded, max_staleness=1h) */ $read")), $old, '... without one: one hour is kept');
like(answers($bare->query("/* tcs(bounded, max_staleness=0) */ $read")), qr/^TC00[14]$/, '... 0 is not');
is(answers($bare->query("SET tcs.read_level = bounded; /* tcs(max_staleness=1h) */ $read")),
	" / $old", '... without a level');
$bare->ok_query('RESET tcs.read_level');

{
	my ($held, @got);
	my $waiting = hint_client("SET tcs.session_token = '$token'; SET tcs.max_wait = 0; SET tcs.fallback = 'error'");

	is(answers($waiting->query($read)), 'TC001', 'tcs.max_wait = 0');
	@got = $look->release($waiting, "/* tcs(max_wait=1min) */ $read", \$held);
	ok($held, '... a hint waits longer');
	is(answers(@got), $value, '... and reads what it has waited for');
	wait_for_replay($primary, $standby);
	$look->stop_replay;
	$old = $value;
	$token = $write_next->($writer);
	$waiting->ok_query("SET tcs.session_token = '$token'; SET tcs.max_wait = -1");
	is(answers($look->unheld($waiting, "/* tcs(max_wait=0) */ $read")), 'TC001', '... or not at all');
	$waiting->disconnect;
}

# A token in the hint
is(answers($bare->query("/* tcs(session_token='$token') */ $read")), '22023', 'tcs.hints = on reads no token, and refuses it');
$bare->ok_query(q{SET tcs.hints = 'all'});
is(answers($bare->query("/* tcs(session_token='$token') */ $read")), 'TC001', 'tcs.hints = all: a token');
is(answers($bare->query("/* tcs(session, session_token=$token) */ $read")), 'TC001', '... without quotes, with a level');
is(answers($bare->query("/* tcs(eventual, session_token='$token') */ $read")), $old, '... where it does not count');
is(answers($bare->query($read)), $old, '... is that of its statement');
is($bare->ok_query('SHOW tcs.session_token'), '', '... and no setting');
is(scalar warnings_of($bare), 0, '... without a warning');
{
	my ($failed) = $bare->query("/* tcs(session_token='$token.') */ $read");

	is($failed->{state}, '22023', '... a damaged one');
	like($failed->{error}{D}, qr/not a session token/, '... is malformed');
}
{
	my $held;
	my @got = $look->release($bare, "/* tcs(max_wait=1min, session_token='$token') */ $read", \$held);

	ok($held, '... a statement waits for it');
	is(answers(@got), $value, '... and reads what it names');
}
$look->go_on;
wait_for_replay($primary, $standby);
$_->disconnect foreach ($careful, $careless, $bare);

$c->disconnect;
done_testing();
