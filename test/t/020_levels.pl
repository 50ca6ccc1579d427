# test/t/020_levels.pl
#
# What each level waits for, and what it does not: a standby whose replay
# stands still is read at every level with tokens that name a write, a read on
# the primary or a read on a standby, with bounds in time and in WAL, with and
# without an answer of the primary.  Then what becomes of a read that cannot be
# served: the steps of tcs.fallback and the limits of tcs.max_wait.  Then what is said
# of a level that does not exist.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair(conf => "log_min_messages = debug1\n");
my ($state, $err, $out);

# All reads are of this row.
my $read = 'SELECT v FROM t WHERE id = 1';

$primary->safe_psql('postgres',
	q{CREATE TABLE t (id int PRIMARY KEY, v text);
	  INSERT INTO t VALUES (1, 'old');
	  CREATE ROLE guest LOGIN});
wait_for_replay($primary, $standby);
wait_for_answer($standby);


##
## Replay stands still before a write
##

pause_replay($standby);

# Which halves of a token name something that is not there yet.
my $written = write_token($primary, q{UPDATE t SET v = 'new' WHERE id = 1});
my $seen = read_at($primary, 'SELECT tcs.session_token()');
my $both = read_at($primary, "SELECT tcs.merge_tokens('$written', '$seen')");

is( read_at(
		$primary,
		"SELECT written_lsn IS NULL, seen_on_primary_lsn IS NULL, seen_on_standby_lsn IS NULL"
		  . " FROM tcs.token_info('$written')"),
	'f|t|t',
	'the token of a write names only what was written');
is( read_at(
		$primary,
		"SELECT written_lsn IS NULL, seen_on_primary_lsn IS NULL, seen_on_standby_lsn IS NULL"
		  . " FROM tcs.token_info('$seen')"),
	't|f|t',
	'the token of a session that only read names only what was seen');

# Without tcs the read would be stale, and these two promise no more.
foreach my $level (qw(eventual consistent_prefix))
{
	is( read_at(
			$standby, $read,
			level => $level,
			token => $both,
			max_wait => 0),
		'old',
		"$level serves what is there, whatever the token says");
}

# The levels that a token counts for: which token each must wait for.
my %waits_for = (
	read_your_writes => { written => 1, seen => 0, both => 1 },
	monotonic_reads => { written => 0, seen => 1, both => 1 },
	session => { written => 1, seen => 1, both => 1 },
	sequential => { written => 1, seen => 1, both => 1 },
	causal => { written => 1, seen => 1, both => 1 },
	bounded => { written => 1, seen => 1, both => 1 });
my %token = (written => $written, seen => $seen, both => $both);

foreach my $level (sort keys %waits_for)
{
	my %opt = (level => $level, max_staleness => '1h', max_wait => '10ms');

	is(read_at($standby, $read, %opt, max_wait => 0),
		'old', "$level without a token asks for nothing");
	foreach my $which (sort keys %token)
	{
		($state, $err, $out) =
		  psql_err($standby, $read, %opt, token => $token{$which});
		if ($waits_for{$level}{$which})
		{
			is($state, 'TC001', "$level waits for a token with \"$which\"");
		}
		else
		{
			is("$state $out", '00000 old', "$level ignores a token with \"$which\"");
		}
	}
}

($state, $err) = psql_err($standby, $read, token => $written, max_wait => '10ms');
like(
	$err,
	qr/this standby is behind what a read at level "session" needs/,
	'the message names the level');
like(
	$err,
	qr/Needed [0-9A-F]+\/[0-9A-F]+, reached [0-9A-F]+\/[0-9A-F]+ .* after waiting \d+ ms/,
	'needed, reached and waited are told');
like($err, qr/Replay is paused/, 'so is why replay does not advance');

# What the statement was refused for is kept.
is( (split /\n/,
		read_at(
			$standby,
			"$read;\nSELECT level, level_source, needed_lsn > reached_lsn, wait_time = 0,"
			  . ' outcome, served_level, reason FROM tcs.last_read',
			token => $written,
			max_wait => 0,
			set => { 'tcs.fallback' => 'eventual' }))[-1],
	'session|default|t|t|downgraded|eventual|behind',
	'tcs.last_read tells what was needed, and that there was no wait');


##
## Bounds
##

# Answers of the primary that the standby cannot replay make it stale.
my $write_more = 'SELECT pg_logical_emit_message(true, $$x$$, repeat($$x$$, 200000))';

$primary->safe_psql('postgres', $write_more);
$standby->poll_query_until('postgres',
	'SELECT staleness > make_interval(secs => 1) AND lag_bytes > 150000 FROM tcs.status')
  or die 'the standby did not notice that it is behind';

is(read_at($standby, $read, level => 'bounded', max_staleness => '1h', max_wait => 0),
	'old', 'bounded serves what is younger than the bound');
($state, $err) =
  psql_err($standby, $read, level => 'bounded', max_staleness => '1s', max_wait => '10ms');
is($state, 'TC001', 'bounded refuses what is older');
like($err, qr/staleness \d{4,} ms/, 'and says how old');
is( psql_err(
		$standby, $read,
		level => 'bounded',
		max_staleness => 0,
		max_wait => '500ms'),
	'TC001',
	'a bound of zero is as strict as strong');
is(psql_err($standby, $read, level => 'strong', max_wait => '500ms'),
	'TC001', 'strong refuses');

is( psql_err(
		$standby, $read,
		level => 'bounded',
		max_staleness => '1h',
		max_lag => '100kB',
		max_wait => '10ms'),
	'TC001',
	'bounded refuses what is further behind than max_lag');
is( read_at(
		$standby, $read,
		level => 'bounded',
		max_staleness => '1h',
		max_lag => '10MB',
		max_wait => 0),
	'old',
	'bounded serves what is less behind');
is( psql_err(
		$standby, $read,
		level => 'bounded',
		max_staleness => '1s',
		max_lag => '10MB',
		max_wait => '10ms'),
	'TC001',
	'both bounds count');
foreach my $level (qw(session read_your_writes eventual))
{
	is(read_at($standby, $read, level => $level, max_lag => 0, max_wait => 0),
		'old', "max_lag does not count at $level");
}

is( read_at(
		$standby,
		q{SELECT tcs.can_serve('eventual'), tcs.can_serve('session'),
			tcs.can_serve('bounded', '1 hour'), tcs.can_serve('bounded', '1 second'),
			tcs.can_serve('BOUNDED', '0'), tcs.can_serve('strong')}),
	't|t|t|f|f|f',
	'tcs.can_serve() says the same');
is( read_at($standby, q{SELECT tcs.can_serve('bounded', '1 hour')}, max_lag => $_->[0]),
	$_->[1], "tcs.can_serve() at max_lag $_->[0]")
  foreach ([ '100kB', 'f' ], [ '10MB', 't' ]);
is( read_at(
		$standby,
		'SET tcs.max_staleness = 1000; SELECT bound_state FROM tcs.status;'
		  . "SET tcs.max_staleness = '1h'; SELECT bound_state FROM tcs.status"),
	"over\nok",
	'tcs.status tells where the staleness stands to the bound');

# A read that waits for its bound is served when replay has come within it.
my $bounded = start_read(
	$standby, $read,
	level => 'bounded',
	max_staleness => '1s',
	max_wait => -1);
my $strong = start_read($standby, $read, level => 'strong', max_wait => -1);
my $session =
  start_read($standby, $read, level => 'session', token => $written, max_wait => -1);

wait_for_waiters($standby, 3);
resume_replay($standby);
is(finish_read($bounded), 'new', 'bounded is served once replay is within the bound');
is(finish_read($strong), 'new', 'strong is served by what it waited for');
is(finish_read($session), 'new', 'session is served by what it waited for');

# An idle primary is no reason to be stale.
wait_for_replay($primary, $standby);
foreach my $i (1 .. 3)
{
	is( read_at(
			$standby, "$read;\nSELECT staleness <= make_interval(secs => 2) FROM tcs.last_read",
			level => 'bounded',
			max_staleness => '2s'),
		"new\nt",
		"bounded is served while the primary is idle ($i)");
}


##
## Steps of tcs.fallback
##

pause_replay($standby);
$written = write_token($primary, q{UPDATE t SET v = 'newer' WHERE id = 1});
$seen = read_at($primary, 'SELECT tcs.session_token()');
$standby->poll_query_until('postgres', 'SELECT staleness > make_interval(secs => 1) FROM tcs.status')
  or die 'the standby did not notice that it is behind';

# fallback: asked for, settings, what is served ('' for an error)
my @ladders = (
	[ 'session', 'redirect, error', {}, '', 'a redirect is skipped' ],
	[ 'session', 'error, eventual', {}, '', 'nothing comes after error' ],
	[ 'session', 'eventual', {}, 'eventual', 'a weaker level is served' ],
	[ 'session', ' Redirect , EVENTUAL ', {}, 'eventual', 'names in any case' ],
	[ 'session', 'consistent_prefix', {}, 'consistent_prefix', 'by its other name' ],
	[
		'session', 'strong, bounded, session, causal, eventual',
		{}, 'eventual', 'steps that are not weaker are skipped'
	],
	[ 'session', 'session, causal, strong', {}, '', 'no weaker step at all' ],
	[
		'session', 'monotonic_reads, error',
		{}, 'monotonic_reads', 'a level that does not ask for the write'
	],
	[
		'session', 'read_your_writes, eventual',
		{}, 'eventual', 'a level that asks for the same is not met either'
	],
	[ 'read_your_writes', 'monotonic_reads', {}, '', 'no weaker one than itself' ],
	[
		'strong', 'bounded, eventual',
		{ token => undef, max_staleness => '1h' },
		'bounded', 'a bound that is kept'
	],
	[
		'strong', 'bounded, session, eventual',
		{ token => undef, max_staleness => '1s' },
		'session', 'a bound that is not kept'
	],
	[
		'strong', 'bounded, session, error',
		{ max_staleness => '1h' },
		'', 'weaker levels that ask for the token as well'
	],
	[
		'bounded', 'session, error',
		{ token => undef, max_staleness => '1s' },
		'session', 'from bounded'
	]);

foreach my $ladder (@ladders)
{
	my ($level, $fallback, $opt, $served, $what) = @$ladder;

	my $position = log_position($standby);

	($state, $err, $out) = psql_err(
		$standby, $read,
		level => $level,
		fallback => $fallback,
		token => $written,
		max_wait => '500ms',
		%$opt);
	if ($served eq '')
	{
		is($state, 'TC001', "$level, fallback \"$fallback\": $what");
		unlike($err, qr/WARNING/, '... no warning besides the error');
	}
	else
	{
		is("$state $out", '00000 new', "$level, fallback \"$fallback\": $what");
		like(
			$err,
			qr/WARNING:\s+TC001: read served at level "$served" instead of "$level"/,
			'... with a warning to the client');
		unlike(log_since($standby, $position), qr/served at level/, '... and to nobody else');
	}
}

# A read that is served as asked says nothing.
($state, $err, $out) =
  psql_err($standby, $read, level => 'session', token => '', fallback => 'eventual');
is("$state $out $err", '00000 new ', 'no warning when the level holds');

# One warning per statement, none for what is exempt, none when not wanted.
($state, $err, $out) = psql_err(
	$standby, "$read;\nSELECT 1;\nBEGIN;\n$read;\nCOMMIT",
	token => $written,
	fallback => 'eventual',
	max_wait => 0);
is(scalar(() = $err =~ /WARNING/g), 2, 'one warning per statement that was downgraded');
($state, $err, $out) = psql_err(
	$standby, $read,
	token => $written,
	fallback => 'eventual',
	max_wait => 0,
	set => { client_min_messages => 'error' });
is("$out $err", 'new ', 'client_min_messages applies to the warning');

# The counters have what the log has not.
my $counted = read_at(
	$standby,
	q{SELECT string_agg(served_level || ': ' || reads, ', ' ORDER BY served_level),
		(SELECT downgraded = 2 FROM tcs.stat_reads WHERE level = 'strong')
		FROM tcs.stat_downgrades WHERE level = 'strong' AND reason = 'behind'});
is($counted, 'bounded: 1, session: 1|t', 'downgrades are counted by target and reason');


##
## tcs.max_wait
##

is( psql_err(
		$standby, "$read",
		token => $written,
		max_wait => 0),
	'TC001',
	'max_wait = 0 does not wait');
(undef, $err) = psql_err($standby, $read, token => $written, max_wait => 0);
like($err, qr/after waiting 0 ms/, '... and says so');

# -1 waits as long as it takes: longer than the built-in second, which is over
# when a read that began later has timed out.
my $patient = start_read($standby, $read, token => $written, max_wait => -1);

wait_for_waiters($standby);
is(psql_err($standby, $read, token => $written, set => {}),
	'TC001', 'the built-in max_wait ends');
ok(read_running($patient), 'max_wait = -1 does not');
resume_replay($standby);
is(finish_read($patient), 'newer', '... before the standby is there');

# The administrator's limit caps what clients set, "for ever" included.
pause_replay($standby);
$written = write_token($primary, q{UPDATE t SET v = 'newest' WHERE id = 1});
$standby->safe_psql('postgres', "ALTER SYSTEM SET tcs.max_wait_limit = '20ms'");
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT current_setting('tcs.max_wait_limit') = '20ms'});
foreach my $wait (-1, '1h')
{
	is(psql_err($standby, $read, token => $written, max_wait => $wait),
		'TC001', "max_wait = $wait is cut to max_wait_limit");
}
is( psql_err(
		$standby, "CALL tcs.wait_for('$written', '1 hour')"),
	'TC001',
	'so is the argument of tcs.wait_for()');
is( psql_err($standby, 'SET tcs.max_wait_limit = -1', user => 'guest'),
	'42501',
	'who is no superuser cannot set the limit');
is( psql_err(
		$standby, "SET tcs.max_wait_limit = -1;\nSET tcs.max_wait = 0;\n$read",
		token => $written),
	'TC001',
	'a superuser can, and max_wait counts again');
$standby->safe_psql('postgres', 'ALTER SYSTEM RESET tcs.max_wait_limit');
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT current_setting('tcs.max_wait_limit') = '-1'});


##
## tcs.wait_for()
##

is(psql_err($standby, "CALL tcs.wait_for('$written', '10ms')"),
	'TC001', 'tcs.wait_for() refuses in time');
is(psql_err($standby, "CALL tcs.wait_for('$written', '0')"),
	'TC001', '... and at once');
is(psql_err($standby, "CALL tcs.wait_for('$written', '-1 s')"),
	'22023', 'a negative wait is refused');
is(psql_err($standby, q{CALL tcs.wait_for('', '0')}), '00000', 'no token, no wait');
is(psql_err($standby, q{CALL tcs.wait_for(NULL)}), '00000', 'nor for NULL');
is( psql_err(
		$standby, "BEGIN;\nDO \$\$ BEGIN CALL tcs.wait_for('$written'); END \$\$"),
	'55000',
	'not where the snapshot of an outer statement stays: DO in a block');
is( psql_err(
		$standby,
		"DO \$\$ BEGIN CALL tcs.wait_for('$written', '10ms'); END \$\$"),
	'TC001',
	'DO outside of a block can give it up');
is( read_at(
		$standby,
		"DO \$\$ BEGIN CALL tcs.wait_for('$both'); PERFORM v FROM t;"
		  . " CALL tcs.wait_for('$both'); PERFORM v FROM t; END \$\$;\n$read"),
	'newer',
	'... and its later statements get a new one');
is( psql_err(
		$standby, "BEGIN ISOLATION LEVEL REPEATABLE READ;\nCALL tcs.wait_for('$written')"),
	'25001',
	'not in REPEATABLE READ');
is( read_at(
		$standby, "BEGIN;\nCALL tcs.wait_for('$both');\nCOMMIT", max_wait => 0),
	'',
	'a token that is reached is not waited for, in a block too');

my $call = start_read($standby, "CALL tcs.wait_for('$written', '1 h');\n$read");

wait_for_waiters($standby);
resume_replay($standby);
is(finish_read($call), 'newest', 'after tcs.wait_for() the write is there');


##
## Why replay does not advance
##

$standby->append_conf('postgresql.conf', 'recovery_min_apply_delay = 1h');
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT current_setting('recovery_min_apply_delay') = '1h'});
$written = write_token($primary, q{UPDATE t SET v = 'delayed' WHERE id = 1});
($state, $err) = psql_err($standby, $read, token => $written, max_wait => '10ms');
is($state, 'TC001', 'a delayed standby is behind');
like($err, qr/delayed by recovery_min_apply_delay/, '... and says why');
$standby->append_conf('postgresql.conf', 'recovery_min_apply_delay = 0');
$standby->reload;
wait_for_replay($primary, $standby);

# A session that replay waits for.
$primary->safe_psql('postgres', 'CREATE TABLE held (a int)');
wait_for_replay($primary, $standby);
$standby->safe_psql('postgres', 'ALTER SYSTEM SET max_standby_streaming_delay = -1');
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT current_setting('max_standby_streaming_delay') = '-1'});

my $holder = start_read($standby, "BEGIN;\nSELECT * FROM held;\nSELECT pg_sleep(3600)");

$standby->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_locks WHERE relation = 'held'::regclass AND pid = $holder->{pid}");
$primary->safe_psql('postgres', 'ALTER TABLE held ADD b int');
$written = write_token($primary, q{UPDATE t SET v = 'blocked' WHERE id = 1});
$standby->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted})
  or die 'replay does not wait for the lock';
($state, $err) = psql_err($standby, $read, token => $written, max_wait => '10ms');
is($state, 'TC001', 'a standby whose replay waits for a session is behind');

# The rate of the last second may still be above zero.
my $said;

foreach my $try (1 .. 100)
{
	(undef, $err) = psql_err($standby, $read, token => $written, max_wait => '100ms');
	$said = $err =~ /At the present replay rate it would be reached in about \d+ ms/;
	last if !$said;
}
ok(!$said, 'an estimate is given up when replay stands still');
like(
	$err,
	qr/Replay .*(lock|session|conflict)/,
	'and what holds it up is named');
cancel_read($holder);
finish_read($holder);
wait_for_replay($primary, $standby);


##
## The WAL receiver is stopped, the primary still answers
##

my $conninfo = $primary->connstr('postgres');

$conninfo =~ s/'/''/g;
$standby->append_conf('postgresql.conf',
	"tcs.primary_conninfo = '$conninfo'\nprimary_conninfo = ''");
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT count(*) = 0 FROM pg_stat_wal_receiver});
$written = write_token($primary, q{UPDATE t SET v = 'unsent' WHERE id = 1});
$standby->poll_query_until('postgres',
	q{SELECT link_state = 'up' AND staleness > make_interval(secs => 1) FROM tcs.status})
  or die 'the standby did not notice that it is behind';
($state, $err) =
  psql_err($standby, $read, level => 'bounded', max_staleness => '1s', max_wait => '10ms');
is($state, 'TC001', 'bounded notices that nothing arrives any more');
like($err, qr/receives no WAL/, '... and says so');
is(read_at($standby, $read, level => 'bounded', max_staleness => '1h', max_wait => 0),
	'blocked', 'within the bound it is served');
is(psql_err($standby, $read, level => 'strong', max_wait => '300ms'),
	'TC001', 'strong is behind');

# Neither WAL nor answers: nobody knows how fresh the standby is.
$standby->append_conf('postgresql.conf', q{tcs.primary_conninfo = ''});
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT link_state = 'down' FROM tcs.status})
  or die 'the link did not go down';
($state, $err) = psql_err($standby, $read, level => 'strong', max_wait => '100ms');
is($state, 'TC004', 'strong without an answer: freshness unknown');
like($err, qr/neither tcs.primary_conninfo nor primary_conninfo is set/, '... and why');
$standby->poll_query_until('postgres',
	'SELECT last_answer_age > make_interval(secs => 1) FROM tcs.status');
is( psql_err(
		$standby, $read,
		level => 'bounded',
		max_staleness => '1s',
		max_wait => '100ms'),
	'TC004',
	'bounded as well, once the last answer is older than the bound');
is(read_at($standby, $read, level => 'bounded', max_staleness => '1h', max_wait => 0),
	'blocked', 'until then it is served');
is(psql_err($standby, $read, token => $written, max_wait => '10ms'),
	'TC001', 'session needs no answer to know that it is behind');
is(read_at($standby, $read, token => $both, max_wait => 0),
	'blocked', '... or not');
($state, $err, $out) = psql_err(
	$standby, $read,
	level => 'strong',
	fallback => 'session',
	max_wait => '10ms');
is("$state $out", '00000 blocked', 'a fallback helps here too');
like(
	$err,
	qr/WARNING:\s+TC004: read served at level "session" instead of "strong"/,
	'with the code of its reason');


##
## Which levels are valid is said where an unknown one is refused
##

my $client = TcsWire->new($primary);

# Why the statement's level is not valid: the error's hint; undef if it is valid.
sub advice_on
{
	my ($statement) = @_;

	$client->ok_query('BEGIN');
	my ($result) = $client->query($statement);
	$client->ok_query('ROLLBACK');
	return $result->{state} eq '22023' ? $result->{error}{H} // '' : undef;
}

foreach my $place (
	[ 'read', q{SELECT tcs.can_serve('LEVEL', '1 s')} ],
	[ 'read', q{SELECT tcs.relax('LEVEL', '1 min', 'a test')} ],
	[ 'read', q{SELECT tcs.set_rule('t', 'LEVEL', '1 s')} ],
	[ 'read', q{SELECT tcs.set_rule('t', 'linearizable', floor => 'LEVEL', max_staleness => '1 s')} ],
	[ 'read', q{SELECT tcs.set_rule('t', 'strong', fallback => 'LEVEL')} ],
	[ 'read', q{/* tcs(LEVEL) */ SELECT v FROM t} ],
	[ 'read', q{/* tcs(fallback=LEVEL) */ SELECT v FROM t} ],
	[ 'read', q{SET tcs.read_level = 'LEVEL'} ],
	[ 'read', q{SET tcs.fallback = 'LEVEL'} ],
	[ 'write', q{/* tcs(write_level=LEVEL) */ UPDATE t SET v = v} ],
	[ 'write', q{SELECT tcs.set_rule('t', 'LEVEL', operation => 'write')} ],
	[ 'write', q{SET tcs.write_level = 'LEVEL'} ])
{
	my ($kind, $sql) = @$place;
	my $names = $primary->safe_psql('postgres',
		"SELECT array_to_string(enumvals, ' ') FROM pg_settings WHERE name = 'tcs.${kind}_level'");
	my @valid = grep { !defined advice_on($sql =~ s/LEVEL/$_/r) } split / /, $names;
	my $advice = advice_on($sql =~ s/LEVEL/fresh/r) // '';

	cmp_ok(scalar @valid, '>', 3, "levels are valid: $sql");
	is($advice =~ s/^(Valid|Available) [a-z ]+: (redirect, error, )?//r,
		join(', ', @valid) . '.', '... and the hint names them and no others');
}
$client->ok_query('SELECT tcs.relax_end()');

done_testing();
