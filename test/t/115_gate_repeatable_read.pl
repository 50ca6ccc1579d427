# test/t/115_gate_repeatable_read.pl
#
# The gate and REPEATABLE READ. A block waits while it has no snapshot. Once it
# has one, what that is known to include is served, also where nothing was asked
# for before. The rest is 40001 where the same transaction would be served if it
# were tried again, and 25001 where it would not: also after a savepoint, with an
# imported snapshot, and though the standby itself has caught up meanwhile.
# Nothing is ever silently stale.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsLagging;
use TcsResults;
use TcsWire;

lagging_nodes();


##
## REPEATABLE READ
##

my $begin = 'BEGIN ISOLATION LEVEL REPEATABLE READ';

# set up before the first snapshot
fresh_client();
fall_behind();
run(set_token());
waits($begin, '', 'RR: BEGIN waits for the token');
at_once($read, $v, 'RR: the block is fresh');
move_on();
at_once($read, $v - 1, 'RR: and stays as it is');
run('COMMIT');

fall_behind();
run(q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'});
waits($begin, '', 'RR: BEGIN waits at strong');
at_once($read, $v, 'RR: a strong block is fresh');
move_on();
at_once($read, $v - 1, 'RR: strong counts from the start of the transaction');
run('COMMIT', q{SET tcs.read_level = 'bounded'}, 'SET tcs.max_staleness = 0');
fall_behind();
waits($begin, '', 'RR: BEGIN waits at bounded');
at_once($read, $v, 'RR: a bounded block is fresh');
move_on();
at_once($read, $v - 1, 'RR: bounded counts from the start of the transaction');
run('COMMIT');

fresh_client();
run('BEGIN', 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
fall_behind();
waits(set_token(), '', 'RR: SET waits while there is no snapshot');
at_once($read, $v, 'RR: SET TRANSACTION, then a token');
run('COMMIT', 'BEGIN');
fall_behind();
run(set_token());
waits('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ',
	'', 'RR: SET TRANSACTION waits for a token set before');
at_once($read, $v, 'RR: a token, then SET TRANSACTION');
run('COMMIT', q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'}, 'BEGIN');
fall_behind();
waits('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ',
	'', 'RR: SET TRANSACTION waits at strong');
at_once($read, $v, 'RR: strong, then SET TRANSACTION');
run('COMMIT', 'RESET tcs.read_level');

# From here on the worker asks only for who waits, so that it is known which
# transactions an answer lies before: a transaction's
# moment is its BEGIN.
$standby->safe_psql('postgres', 'ALTER SYSTEM SET tcs.probe_interval = 0');
$standby->reload;
$look->poll('SELECT last_answer_age > make_interval(secs => 1) FROM tcs.status') or die 'the worker goes on asking';

foreach my $case (
	[ 'SET LOCAL', $begin, q{SET LOCAL tcs.session_token = 'TOKEN'} ],
	[
		'SET in a savepoint',
		"$begin; SAVEPOINT a",
		q{SET tcs.session_token = 'TOKEN'}
	],
	[ 'SET of the level', $begin, q{SET tcs.read_level = 'strong'} ],
	[ 'SET LOCAL of the level', $begin, q{SET LOCAL tcs.read_level = 'strong'} ])
{
	my ($name, $first, $set) = @$case;

	fresh_client();
	run($first);
	fall_behind();
	waits($set =~ s/TOKEN/$token/r, '', "RR: $name waits");
	at_once($read, $v, "RR: $name before the first query");
	run('COMMIT');
}

# Several statements in one message: what only sets something does not wait, and the
# first that reads does, even so.
foreach my $case (
	[ 'a token', '-c default_transaction_isolation=repeatable\\ read' ],
	[ 'strong', '-c default_transaction_isolation=repeatable\\ read', q{SET tcs.read_level = 'strong'} ],
	[ 'snapshot', '', q{SET tcs.read_level = 'snapshot'} ])
{
	my ($name, $options, @set) = @$case;

	fresh_client($options);
	run(@set);
	foreach (
		[ "SET a.b = 'x'; $read; $read", 'SET, and what reads' ],
		[ "RESET a.b; PREPARE p AS $read; EXECUTE p", 'RESET, and EXECUTE' ],
		[ "SET a.b = 'x'; DECLARE c CURSOR FOR $read; FETCH c", 'SET, and a cursor' ])
	{
		fall_behind();
		run(set_token());
		at_once($_, '', "$name: $_")
		  foreach ("SET a.b = 'x'; SET a.b = 'y'", "SET a.b = 'x'; COMMIT", "ROLLBACK; SET a.b = 'x'", 'RESET a.b; RESET a.c');
		waits($_->[0], $v, "$name: $_->[1] in one message");
	}
	fall_behind();
	waits(set_token() . "; $read", $v, "$name: SET of a token, and what reads");
	fall_behind();
	run(set_token());
	at_once('RESET tcs.read_level; RESET tcs.session_token', '', "$name: RESET of all that is asked for");
	at_once($read, $v - 1, '... and nothing is asked for any more');
}
catch_up();

# A chained transaction has no BEGIN that could wait.  Its first query does,
# since nothing was read in it yet.
fresh_client();
run($begin, $read);
fall_behind();
run(set_token(), 'COMMIT AND CHAIN');
waits($read, $v, 'RR: the first query after COMMIT AND CHAIN');
move_on();
at_once($read, $v - 1, 'RR: and its snapshot stays');
run(set_token());
at_once($read, '40001', 'RR: which is too old for a newer token');
run('ROLLBACK', $begin, $read);
fall_behind();
run('ROLLBACK AND CHAIN');
waits(set_token(), '', 'RR: SET after ROLLBACK AND CHAIN');
at_once($read, $v, 'RR: and the first query after it');
run('COMMIT');

fresh_client('-c tcs.read_level=strong');
run($begin, $read);
fall_behind();
run('COMMIT AND CHAIN');
waits($read, $v, 'RR: the first query after COMMIT AND CHAIN at strong');
run('COMMIT');

# Nothing was asked for when the transaction began, and yet its snapshot is known
# to have what was replayed by then.
foreach my $case (
	[ 'a token', q{SET tcs.session_token = 'TOKEN'} ],
	[ 'strong', q{SET tcs.read_level = 'strong'} ],
	[ 'strong by a hint', 'SELECT 1', '/* tcs(strong) */ ' ],
	[ 'bounded', q{SET tcs.read_level = 'bounded'} ],
	[ 'no staleness', q{SET tcs.read_level = 'bounded'; SET tcs.max_staleness = 0} ],
	[ 'no lag', q{SET tcs.read_level = 'bounded'; SET tcs.max_lag = 0} ])
{
	my ($name, $set, $hint) = @$case;

	foreach my $start ($begin, 'BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ',
		"$begin; $read; COMMIT AND CHAIN")
	{
		fresh_client();
		move_on();
		run($start, $read, $set =~ s/TOKEN/$token/r);
		# it may wait for an answer, but not for replay
		is(outcome($c->query(($hint // '') . $read)), $v, "RR: $name after the first query of \"$start\"");
		run('ROLLBACK');
	}
}

# 40001 says that a retry helps.
fresh_client();
run($begin, $read);
move_on();
run(set_token());
at_once($read, '40001', 'RR: replayed after the transaction began');
run('ROLLBACK', q{SET tcs.session_token = ''}, $begin, $read, set_token());
at_once($read, $v, 'RR: tried again, it is served');
run('ROLLBACK', q{SET tcs.session_token = ''}, $begin, $read);
fall_behind();
run(set_token());
at_once($read, '25001', 'RR: not replayed yet, so that it would be in vain');
run('ROLLBACK');
catch_up();

# Too late: whatever the standby has by now, the snapshot is not known to.
foreach my $case (
	[ 'SET', q{SET tcs.session_token = 'TOKEN'}, '40001' ],
	[ 'SET LOCAL', q{SET LOCAL tcs.session_token = 'TOKEN'}, '40001' ],
	[ 'set_config', q{SELECT set_config('tcs.session_token', 'TOKEN', false)}, '40001' ],
	[ 'strong', q{SET tcs.read_level = 'strong'}, '25001' ],
	[ 'bounded', q{SET tcs.read_level = 'bounded'; SET tcs.max_staleness = 0}, '25001' ])
{
	my ($name, $how, $state) = @$case;

	foreach my $first ($read, 'DECLARE x CURSOR FOR SELECT v FROM t')
	{
		my $set = $how;

		fresh_client();
		run($begin, $first, 'SAVEPOINT a');
		move_on();
		$set =~ s/TOKEN/$token/g;
		run($set);
		is(outcome($c->query($read)), $state, "RR: $name after \"$first\"");
		run('ROLLBACK TO a', $set);
		is(outcome($c->query($read)), $state, 'RR: the same again after ROLLBACK TO');
		run('ROLLBACK TO a');
		is($c->ok_query('SHOW transaction_isolation'),
			'repeatable read', 'RR: in the same transaction');
		run('ROLLBACK');
	}

	# what shows nothing of the snapshot leaves it open
	my $set = $how;

	fresh_client();
	run($begin, 'SELECT 1', 'SELECT pg_is_in_recovery()', 'SAVEPOINT a');
	move_on();
	$set =~ s/TOKEN/$token/g;
	run($set);
	is($c->ok_query($read), $v, "RR: $name after what reads nothing");
	run('ROLLBACK TO a');
	is($c->ok_query($read), $v, 'RR: and the same snapshot afterwards');
	run('ROLLBACK');
}
fresh_client();
run($begin);
fall_behind();
run("SELECT set_config('tcs.session_token', '$token', false) <> ''");
waits($read, $v, 'RR: set_config comes before the first read');
run('ROLLBACK');
catch_up();
run(set_token(), $begin);
at_once($read, $v, 'RR: the transaction tried again');
run('COMMIT');

# A wait that could not change the snapshot would only look like a proof.
run($begin);
at_once("CALL tcs.wait_for('$token')", '25001', 'RR: wait_for is refused');
run('ROLLBACK');

# all ways to read in such a block
fresh_client();
run($begin, $read, 'PREPARE p AS SELECT v FROM t');
move_on();
run(set_token());
foreach my $sql (
	'EXECUTE p',
	'COPY t TO STDOUT',
	'EXPLAIN ANALYZE SELECT v FROM t',
	'DECLARE c CURSOR FOR SELECT v FROM t',
	q{DO 'BEGIN PERFORM v FROM t; END'},
	'CALL p_commits(0, 0)')
{
	run('SAVEPOINT a');
	at_once($sql, '40001', "RR: too late: $sql");
	run('ROLLBACK TO a');
}
run('SAVEPOINT a');
$c->extended('SELECT v FROM t')->sync;
at_once(undef, '40001', 'RR: too late: extended protocol');
run('ROLLBACK TO a');
at_once('SELECT 1', '1', 'RR: what reads nothing is served');
run('ROLLBACK');

# an imported snapshot
my $exporter = TcsWire->new($standby);

$exporter->ok_query("$begin; $read");

my $exported = $exporter->ok_query('SELECT pg_export_snapshot()');
my $had = $v;

foreach my $state ('before the token', 'that has the token')
{
	# What was not proven to the importing session counts for nothing.
	move_on() if $state eq 'before the token';
	fresh_client();
	if ($state eq 'that has the token')
	{
		$exporter->ok_query('ROLLBACK');
		$exporter->ok_query("$begin; $read");
		$exported = $exporter->ok_query('SELECT pg_export_snapshot()');
		$had = $v;
	}

	run($begin, "SET TRANSACTION SNAPSHOT '$exported'");
	at_once($read, $had, "RR: an imported snapshot $state is read from");
	run(set_token());
	at_once($read, '25001', 'RR: but is not known to be fresh');
	run('ROLLBACK', set_token(), $begin,
		"SET TRANSACTION SNAPSHOT '$exported'");
	at_once($read, '25001', 'RR: also when the token was there before');
	run('ROLLBACK', $begin);
	at_once($read, $v, 'RR: while its own snapshot is');
	run('ROLLBACK', q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'},
		$begin, "SET TRANSACTION SNAPSHOT '$exported'");
	at_once($read, '25001', 'RR: nor is it for strong');
	run('ROLLBACK', q{SET tcs.read_level = 'eventual'},
		$begin, "SET TRANSACTION SNAPSHOT '$exported'");
	at_once($read, $had, 'RR: eventual does not mind');
	run('ROLLBACK');
}
$exporter->disconnect;

# REPEATABLE READ by default: a statement that is its own transaction
foreach my $level ('session', 'strong')
{
	my $with =
	  '-c default_transaction_isolation=repeatable\\ read -c tcs.read_level='
	  . $level;

	fresh_client($with);
	run('PREPARE p AS SELECT v FROM t');
	foreach my $sql (
		$read,
		'EXECUTE p',
		'SELECT (SELECT v FROM t)',
		'SELECT f_immutable()',
		'SELECT f_inlined()',
		'SELECT v FROM t WHERE v <= f_stable()')
	{
		fall_behind();
		run(set_token()) if $level eq 'session';
		waits($sql, $v, "RR by default, $level: $sql");
	}
	fall_behind();
	run(set_token()) if $level eq 'session';
	is( ($look->release($c, 'COPY t TO STDOUT'))[0]{copy},
		"$v\n", "RR by default, $level: COPY");
	fall_behind();
	run(set_token()) if $level eq 'session';
	waits('CALL p_commits(0, 0)', "$v|$v", "RR by default, $level: CALL with COMMIT");
	fall_behind();
	run(set_token()) if $level eq 'session';
	$c->extended($read)->sync;
	waits(undef, $v, "RR by default, $level: extended protocol");
	fall_behind();
	run(set_token()) if $level eq 'session';
	waits('BEGIN', '', "RR by default, $level: BEGIN");
	at_once($read, $v, "RR by default, $level: the block");
	run('COMMIT');
	is($c->ok_query('SHOW transaction_isolation'),
		'repeatable read', "RR by default, $level: it stays the default");

	# Several statements in one transaction: fresh or refused, never stale.
	foreach my $kind ('string', 'pipeline')
	{
		fall_behind();
		run(set_token()) if $level eq 'session';
		if ($kind eq 'string')
		{
			$c->simple("$read; $read");
		}
		else
		{
			$c->extended($read)->extended($read)->sync;
		}
		like(outcome($look->release($c)),
			qr/^(?:$v|40001|25001)$/, "RR by default, $level: two reads in a $kind");
		catch_up();
		run(set_token()) if $level eq 'session';
		fall_behind();
		if ($level eq 'session')
		{
			if ($kind eq 'string')
			{
				$c->simple(set_token() . "; $read");
			}
			else
			{
				$c->extended(set_token())->extended($read)->sync;
			}
			like(outcome($look->release($c)),
				qr/^(?:$v|40001)$/,
				"RR by default, $level: a token and a read in a $kind");
		}
		catch_up();
	}
}

$_->disconnect foreach ($c, $writer, $look);

done_testing();
