# test/t/110_gate_transactions.pl
#
# The gate and transactions.  In READ COMMITTED each statement of a block is as
# fresh as the settings in force at that moment ask: in savepoints, after
# ROLLBACK TO, after errors at any depth, after COMMIT AND CHAIN, and when SET
# is rolled back.  In REPEATABLE READ a block waits while it has no snapshot.
# Once it has one, what that is known to include is served, also where nothing
# was asked for before.  The rest is 40001 where the same transaction would be
# served if it were tried again, and 25001 where it would not: also after a
# savepoint, with an imported snapshot, and though the standby itself has caught
# up meanwhile.  Nothing is ever silently stale.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair();
my $writer = TcsWire->new($primary);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

$writer->ok_query(
	q{
CREATE TABLE t (v int);
INSERT INTO t VALUES (0);
CREATE FUNCTION f_fails(how text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		IF how = 'division' THEN RETURN 1 / 0; END IF;
		IF how = 'raise' THEN RAISE EXCEPTION 'raised'; END IF;
		IF how = 'sql' THEN EXECUTE 'SELECT 1 / v * 0 FROM t WHERE 1 / (v - v) = 1'; END IF;
		IF how = 'caught' THEN
			BEGIN
				EXECUTE 'SELECT 1 / (v - v) FROM t';
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
		END IF;
		RETURN f_fails('sql');
	END$$;
CREATE FUNCTION f_immutable() RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_stable() RETURNS int LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_inlined() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT v FROM t';
CREATE PROCEDURE p_commits(INOUT before int, INOUT after int) LANGUAGE plpgsql
	AS $$BEGIN
		before := (SELECT v FROM t);
		COMMIT;
		after := (SELECT v FROM t);
	END$$;
CREATE PROCEDURE p_sets(INOUT before int, INOUT after int, token text) LANGUAGE plpgsql
	AS $$BEGIN
		before := (SELECT v FROM t);
		COMMIT;
		PERFORM set_config('tcs.session_token', token, false);
		after := (SELECT v FROM t);
	END$$;
});

my $v = 0;
my $token;
my $c;

# The next write.
my $write_next = counted_write(\$v, 'UPDATE t SET v = %d');

# A write that the standby does not replay.
sub fall_behind
{
	$look->stop_replay;
	$token = $write_next->($writer);
	return;
}

# A write that the standby has replayed, though the client's snapshot may not
# have it.
sub move_on
{
	$token = $write_next->($writer);
	catch_up();
	return;
}

sub catch_up
{
	my $lsn = $writer->ok_query('SELECT pg_current_wal_flush_lsn()');

	$look->go_on;
	$look->poll("SELECT pg_last_wal_replay_lsn() >= '$lsn'")
	  or die 'the standby did not catch up';
	return;
}

sub set_token { return "SET tcs.session_token = '$token'"; }

# A client without settings.
sub fresh_client
{
	my ($options) = @_;

	$c->disconnect if $c;
	$c = TcsWire->new($standby, options => '-c tcs.max_wait=-1 ' . ($options // ''));
	return;
}

# The statement waits, replay goes on, and this comes out.
sub waits
{
	my ($sql, $expected, $name) = @_;
	my $held;
	my $got = outcome($look->release($c, $sql, \$held));

	is(($held ? 'waited' : 'not held') . ": $got", "waited: $expected", $name);
	return;
}

# The statement does not wait, and this comes out.
sub at_once
{
	my ($sql, $expected, $name) = @_;

	is(outcome($look->unheld($c, $sql)), $expected, $name);
	return;
}

# Statements that have to succeed for what comes next to mean anything.
sub run
{
	foreach my $sql (@_)
	{
		my ($failed) = grep { $_->{state} ne '00000' } $c->query($sql);

		fail("$sql: " . TcsWire::describe_result($failed)) if $failed;
	}
	return;
}

my $read = 'SELECT v FROM t';

move_on();
wait_for_answer($standby);


##
## READ COMMITTED
##

fresh_client();
fall_behind();
run(set_token());
waits('BEGIN', '', 'BEGIN waits for the token');
at_once($read, $v, 'and its statements need not');
run('COMMIT');

fall_behind();
run(q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'});
at_once('BEGIN', '', 'BEGIN does not ask the primary');
waits($read, $v, 'a strong statement in a block does');
fall_behind();
waits($read, $v, 'and so does the next one');
run('COMMIT');

fresh_client();
foreach my $set ('SET', 'SET LOCAL')
{
	run('BEGIN', $read);
	fall_behind();
	at_once("$set tcs.session_token = '$token'",
		'', "$set in a READ COMMITTED block does not wait");
	waits($read, $v, "the statement after $set does");
	run('COMMIT');
}
run('BEGIN', $read);
fall_behind();
at_once("SELECT set_config('tcs.session_token', '$token', true) <> ''",
	't', 'set_config does not wait');
waits($read, $v, 'the statement after it does');
run('COMMIT');

# savepoints
run('BEGIN', 'SAVEPOINT a');
fall_behind();
run(set_token());
waits($read, $v, 'a token that was set in a savepoint');
run('SAVEPOINT b');
fall_behind();
run(set_token());
at_once('ROLLBACK TO b', '', 'ROLLBACK TO does not wait');
at_once($read, $v - 1, 'it takes back the token');
run(set_token(), 'SAVEPOINT c', 'ROLLBACK TO c');
waits($read, $v, 'a token that was set before the savepoint stays');
fall_behind();
run(set_token(), 'RELEASE c');
waits($read, $v, 'RELEASE keeps it');
run('COMMIT');

# A statement that was refused can be tried again from a savepoint.
run('BEGIN', 'SET LOCAL tcs.max_wait = 0', 'SAVEPOINT a');
fall_behind();
run(set_token());
at_once($read, 'TC001', 'refused without patience');
run('ROLLBACK TO a', set_token());
at_once($read, 'TC001', 'refused again');
run('ROLLBACK TO a', set_token());
catch_up();
at_once($read, $v, 'served when replay has come');
run('COMMIT');

# COMMIT AND CHAIN, and its kin
foreach my $chain ('COMMIT AND CHAIN', 'ROLLBACK AND CHAIN')
{
	run('BEGIN', $read);
	fall_behind();
	run("SET tcs.session_token = ''", 'SAVEPOINT a') if $chain =~ /ROLLBACK/;
	run($chain, set_token());
	waits($read, $v, "a statement after $chain");
	run('COMMIT');
}

# settings that go away with their transaction
fresh_client();
fall_behind();
run('BEGIN', set_token(), 'ROLLBACK');
at_once($read, $v - 1, 'a token that was rolled back asks for nothing');
run('BEGIN', "SET LOCAL tcs.session_token = '$token'", 'COMMIT');
at_once($read, $v - 1, 'nor does one of SET LOCAL after the block');
run('BEGIN', set_token(), 'SET LOCAL tcs.max_wait = 0');
at_once($read, 'TC001', 'in the block it does');
run('ROLLBACK');
at_once($read, $v - 1, 'an error takes it back, too');
run('BEGIN', set_token(), 'COMMIT');
waits($read, $v, 'one that was committed stays');

# raised, and lowered
my $older = $token;

fall_behind();
run(set_token(), "SET tcs.session_token = '$older'");
at_once($read, $v - 1, 'SET replaces: a lower token asks for less');
run('BEGIN', set_token(), "SET tcs.session_token = '$older'");
at_once($read, $v - 1, 'also in a block');
run(set_token());
waits($read, $v, 'raised again, it asks for more again');
run('COMMIT');
fall_behind();
run(set_token(), 'RESET tcs.session_token');
at_once($read, $v - 1, 'RESET asks for nothing');
run(set_token(), 'DISCARD ALL');
at_once($read, $v - 1, 'nor does DISCARD ALL');
catch_up();

# a cursor reads on with its own snapshot
run('BEGIN', 'DECLARE c CURSOR FOR SELECT v FROM t, generate_series(1, 3)',
	'FETCH 1 FROM c');
fall_behind();
run(set_token());
at_once('FETCH 1 FROM c', $v - 1, 'FETCH reads on');
waits("DECLARE d CURSOR FOR $read", '', 'another cursor is declared afresh');
at_once('FETCH 1 FROM d', $v, 'and has the write');
at_once('FETCH 1 FROM c', $v - 1, 'which the first has not');
run('COMMIT');

# After an error, wherever it came from, the next statement of the client is
# still known as such.
foreach my $failing (
	'SELECT 1 / 0',
	'SELECT 1 / (v - v) FROM t',
	'SELECT 1 FROM t WHERE 1 / (v - v) = 1',
	'SELECT nothing',
	q{SELECT f_fails('division')},
	q{SELECT f_fails('raise') FROM t},
	q{SELECT f_fails('sql')},
	q{SELECT f_fails('caught')},
	q{SELECT (SELECT f_fails('caught')) FROM generate_series(1, 2)},
	q{DO $$BEGIN PERFORM f_fails('caught'); END$$},
	q{DO $$BEGIN BEGIN PERFORM f_fails('caught'); EXCEPTION WHEN OTHERS THEN NULL; END; END$$},
	q{CALL p_commits(1 / 0, 1)},
	q{EXPLAIN ANALYZE SELECT f_fails('sql')},
	q{COPY (SELECT f_fails('sql')) TO STDOUT},
	q{DECLARE x CURSOR WITH HOLD FOR SELECT f_fails('sql'); COMMIT},
	q{DECLARE x CURSOR FOR SELECT f_fails('sql'); FETCH x},
	q{PREPARE p AS SELECT f_fails('sql'); EXECUTE p},
	'INSERT INTO t VALUES (1)',
	'SELECT v FROM t FOR UPDATE')
{
	fresh_client();
	$c->query($failing);
	fall_behind();
	run(set_token());
	waits($read, $v, "after: $failing");

	run('BEGIN', $read, 'SAVEPOINT a');
	$c->query($failing);
	if ($c->status eq 'I')
	{
		run('BEGIN');
	}
	else
	{
		run('ROLLBACK TO a');
	}
	fall_behind();
	run(set_token());
	waits($read, $v, "after ROLLBACK TO: $failing");
	run('COMMIT');
}

# procedures that end transactions
fresh_client();
fall_behind();
run(set_token());
waits('CALL p_commits(0, 0)', "$v|$v", 'a procedure with COMMIT');
fall_behind();
run(set_token());
waits(
	q{DO $$BEGIN COMMIT; RAISE NOTICE '%', (SELECT v FROM t); COMMIT; END$$},
	'', 'DO with COMMIT');
is(($c->notices)[-1]{M}, $v, 'and what it reads');
fall_behind();
run(q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'});
waits('CALL p_commits(0, 0)', "$v|$v", 'a procedure with COMMIT at strong');
run('RESET tcs.read_level');
fall_behind();
at_once("CALL p_sets(0, 0, '$token')",
	'55000', 'a procedure that asks for more than its caller');
catch_up();
run(set_token());
at_once("CALL p_sets(0, 0, '$token')", "$v|$v", 'or for no more');


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
$look->poll('SELECT last_answer_age_ms > 1000 FROM tcs.status()') or die 'the worker goes on asking';

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


##
## SERIALIZABLE
##

# is refused by core on every standby, and that is what the client gets to know
fresh_client();
at_once('BEGIN ISOLATION LEVEL SERIALIZABLE',
	'0A000', 'SERIALIZABLE is refused by core');
$c->query('ROLLBACK');
run(q{SET default_transaction_isolation = 'serializable'});
at_once($read, '0A000', 'as a default, too');
run(set_token());
at_once($read, '0A000', 'also with a token');

$_->disconnect foreach ($c, $writer, $look);
done_testing();
