# test/t/120_gate_ddl.pl
#
# What replay does to a statement that waits for it.  VACUUM and DDL that a
# token covers are replayed before, or while, a statement on the standby waits:
# one that holds nothing gets the rows of the new schema, or 40001 where that
# would give it other columns than it was promised; one that holds a lock or a
# snapshot that replay needs gets 40001 or 40P01, and when it is tried again,
# the new rows.  With max_standby_streaming_delay 0, 1s and -1.  The old rows
# are never returned, and nothing hangs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsReplays;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair();
my $writer = TcsWire->new($primary);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

my $number = 0;
my ($c, $token, $lsn);

sub wait_until_replayed
{
	$look->poll("SELECT pg_last_wal_replay_lsn() >= '$lsn'")
	  or die 'the standby did not catch up';
	return;
}

# Rows of the read as text, or the SQLSTATE of the first error.
sub outcome_of_way
{
	my ($way, @results) = @_;
	my ($failed) = grep { $_->{state} ne '00000' } @results;

	if ($failed)
	{
		note(TcsWire::describe_result($failed));
		return $failed->{state};
	}
	return $results[-1]{copy} =~ s/\n\z//r if $way->{copy};
	if ($way->{advisory})
	{
		is(TcsWire::rows_text(pop @results),
			'locks: 1', 'the advisory lock was kept');
	}
	return TcsWire::rows_text($results[ $way->{result} // -1 ]);
}

sub one_case
{
	my ($change, $way, $table, $delay) = @_;
	my $name = "$delay, $way->{name}: $change->{name}";
	my $sql = $change->{read} =~ s/\bT\b|\bT(?=_)/$table/gr;
	my @steps = map { s/\bT\b|\bT(?=_)/$table/gr } @{ $change->{change} };

	$c = TcsWire->new($standby);
	$c->ok_query("SET tcs.max_wait = -1; SET statement_timeout = '60s'; SET search_path = front, public");
	is(TcsWire::rows_text(($c->query($sql))[0]), $change->{old},
		"$name: the old state");
	$c->ok_query($_) foreach (@{ $way->{prepare} // [] });
	$way->{begin}->($c, $sql) if $way->{begin};

	$look->stop_replay if !$way->{after};
	$writer->ok_query($_) foreach @steps;
	# VACUUM has no commit record of its own that a token could name
	$writer->ok_query('INSERT INTO other VALUES (3)');
	($token, $lsn) = last_write($writer);
	wait_until_replayed() if $way->{after};
	if ($way->{pipelined})
	{
		$c->extended("SET tcs.session_token = '$token'")->ask->results(1);
	}
	else
	{
		$c->ok_query("SET tcs.session_token = '$token'");
	}

	# core does not look up a prepared statement's names again
	my @expected =
	  ($change->{names} && $way->{keeps_names} ? $change->{old} : $change->{new});
	my @results;

	if ($way->{after})
	{
		$way->{read} ? $way->{read}->($c, $sql) : $c->simple($sql);
		@results = $c->results;
		@expected = ('0A000') if $change->{columns} && $way->{plain};
	}
	else
	{
		my $held;

		foreach my $statement (@{ $way->{start} // [] })
		{
			outcome_of_way({}, $look->release($c, $statement, \$held));
		}
		$way->{read} ? $way->{read}->($c, $sql) : $c->simple($sql);
		@results =
		  $way->{start} ? $c->results : $look->release($c, undef, \$held);
		fail("$name: did not wait") if !$held;

		if (   $change->{lock} && $way->{lock}
			|| $change->{snapshot} && $way->{snapshot})
		{
			@expected = ('40001', '40P01');
		}
		elsif ($change->{columns} && !$way->{start} && !$way->{copy} && !$way->{analysed})
		{
			# core's own answer where it plans anew itself
			@expected = ('40001', $way->{plain} ? '0A000' : ());
		}
	}

	my $got = outcome_of_way($way, @results);

	ok((grep { $got eq $_ } @expected) > 0, "$name: " . join(' or ', @expected))
	  or diag("got $got");

	# Tried again, from the beginning, it has the new rows.  Replay sends its signal
	# until it has the lock, and core ends a session that gets it between statements.
	$c->query('ROLLBACK') if $c->status ne 'I';
	wait_until_replayed();
	$c = TcsWire->new($standby) if ($c->query('DISCARD ALL'))[-1]{state} eq '08006';
	$c->ok_query("SET tcs.session_token = '$token'; SET statement_timeout = '60s'; SET search_path = front, public");
	is(outcome_of_way({}, $c->query($sql)), $change->{new}, "$name: tried again");
	$c->disconnect;
	return;
}

$writer->ok_query('CREATE SCHEMA front; CREATE TABLE other (a int); INSERT INTO other VALUES (1), (2)');
wait_for_answer($standby);

foreach my $delay ('0', '-1', '1s')
{
	my @cases;

	$standby->append_conf('postgresql.conf',
		"max_standby_streaming_delay = $delay");
	$standby->reload;
	$look->poll(
		"SELECT setting = '" . ($delay eq '1s' ? 1000 : $delay) . "'"
		  . q{ FROM pg_settings WHERE name = 'max_standby_streaming_delay'})
	  or die 'no reload';

	foreach my $way (@reads)
	{
		foreach my $change (@changes)
		{
			my $table = 't' . $number++;

			next if $way->{not} && $change->{ $way->{not} };
			push @cases, [ $change, $way, $table, $delay ];
			$writer->ok_query(
				$change->{create} =~ s/\bT\b|\bT(?=_)/$table/gr);
		}
	}
	($token, $lsn) = last_write($writer);
	wait_until_replayed();
	one_case(@$_) foreach @cases;
}


##
## Between planning and the gate
##

# A plan can be stale without any wait.  The statement is stopped while it is
# planned, after its partitions were listed: the function is called by the
# estimate.  Then the partition arrives, and the gate finds the token reached.
$writer->ok_query(
	q{
CREATE TABLE p (a int) PARTITION BY LIST (a);
CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p_2 (a int);
INSERT INTO p VALUES (1);
INSERT INTO p_2 VALUES (2);
ANALYZE p;
CREATE FUNCTION f_stops() RETURNS int LANGUAGE plpgsql STABLE
	AS $$BEGIN
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		RETURN 100;
	END$$;
});
($token, $lsn) = last_write($writer);
wait_until_replayed();

my $holder = TcsWire->new($standby);
my $sql =
  q{SELECT string_agg(a::text, ',' ORDER BY a) FROM p WHERE a < f_stops()};

$c = TcsWire->new($standby);
is($c->ok_query($sql), '1', 'the old partitions');
$holder->ok_query('SELECT pg_advisory_lock(1)');
$look->stop_replay;
$writer->ok_query('ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES IN (2)');
($token, $lsn) = last_write($writer);
$c->ok_query("SET tcs.session_token = '$token'");
$c->simple($sql)->flush;
$look->poll(
	q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = }
	  . $c->pid)
  or die 'planning was not stopped';
$look->go_on;
wait_until_replayed();
$holder->ok_query('SELECT pg_advisory_unlock(1)');
is(outcome_of_way({}, $c->results), '1,2', 'a partition attached during planning');


##
## Outside a block, whatever waits has given its locks back
##

$writer->ok_query(
	q{
CREATE TABLE locked (a int);
INSERT INTO locked VALUES (0);
CREATE FUNCTION count_locked() RETURNS bigint LANGUAGE plpgsql IMMUTABLE
	AS 'BEGIN RETURN (SELECT count(*) FROM locked); END';
CREATE FUNCTION inlined() RETURNS SETOF locked LANGUAGE sql STABLE AS 'SELECT * FROM locked';
});
($token, $lsn) = last_write($writer);
wait_until_replayed();
foreach my $rules (0, 1)
{
	# with a rule for anything, EXECUTE looks at what its statement reads
	if ($rules)
	{
		$writer->ok_query(q{SELECT tcs.set_rule('other', 'session')});
		($token, $lsn) = last_write($writer);
		wait_until_replayed();
	}
	foreach my $statement (
		'SELECT count(*) FROM locked',
		'DECLARE d CURSOR WITH HOLD FOR SELECT count(*) FROM locked',
		'EXPLAIN (ANALYZE) SELECT * FROM locked',
		'EXECUTE e',
		'EXPLAIN (ANALYZE) EXECUTE e',
		'COPY locked TO STDOUT',
		'COPY (SELECT a FROM locked) TO STDOUT',
		'SELECT count_locked()')
	{
		my $held;

		$c = TcsWire->new($standby);
		$c->ok_query('SET tcs.max_wait = -1; PREPARE e AS SELECT count(*) FROM inlined()');
		$look->stop_replay;
		$writer->ok_query('BEGIN; LOCK TABLE locked; INSERT INTO locked VALUES (1); COMMIT');
		($token, $lsn) = last_write($writer);
		$c->ok_query("SET tcs.session_token = '$token'");
		is(outcome_of_way({}, ($look->release($c, $statement, \$held))[0]) =~ /^(?:4....|5....)$/ ? $& : 'served',
			'served', "a lock that replay needs: $statement" . ($rules ? ', with rules' : ''));
		ok($held, '... it has waited');
		is($c->ok_query($statement =~ /^DECLARE/ ? 'FETCH ALL FROM d' : 'SELECT count(*) FROM locked'),
			$writer->ok_query('SELECT count(*) FROM locked'), '... and the rows are new');
		$c->disconnect;
	}
}
$writer->ok_query(q{SELECT tcs.drop_rule('other')});
($token, $lsn) = last_write($writer);
wait_until_replayed();


##
## Procedures, and the columns of what they give back
##

$writer->ok_query(
	q{CREATE PROCEDURE public.same(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 1; END';
	  CREATE PROCEDURE public.changed(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 1; END';
	  CREATE PROCEDURE public.turned(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 1; END'});
($token, $lsn) = last_write($writer);
wait_until_replayed();
foreach my $case (
	[ q{CREATE PROCEDURE front.same(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 2; END'},
		'CALL same(NULL)', '2' ],
	[ q{CREATE PROCEDURE front.changed(INOUT a int, OUT b text) LANGUAGE plpgsql AS 'BEGIN a := 2; END';
		DROP PROCEDURE public.changed},
		'CALL changed(NULL)', '42883' ],
	[ q{CREATE PROCEDURE front.turned(INOUT a text) LANGUAGE plpgsql AS 'BEGIN a := 2; END'},
		'CALL turned(NULL)', '40001' ])
{
	my ($change, $call, $expected) = @$case;

	$c = TcsWire->new($standby);
	$c->ok_query('SET search_path = front, public; SET tcs.max_wait = -1');
	$look->stop_replay;
	$writer->ok_query($change);
	($token, $lsn) = last_write($writer);
	$c->ok_query("SET tcs.session_token = '$token'");

	my $held;
	$c->simple($call);
	is(outcome_of_way({}, $look->release($c, undef, \$held)), $expected, "$call: $expected");
	$c->disconnect;
}

##
## What planning evaluates, in REPEATABLE READ
##

# A generic plan has the function's result in it.  Made anew after the wait, it
# must not have what the transaction's first snapshot saw.
$writer->ok_query(
	q{CREATE TABLE folded (a int); INSERT INTO folded VALUES (1);
	  CREATE FUNCTION folds() RETURNS int LANGUAGE plpgsql IMMUTABLE
		AS 'BEGIN RETURN (SELECT max(a) FROM public.folded); END'});
($token, $lsn) = last_write($writer);
wait_until_replayed();
$c = TcsWire->new($standby);
$c->ok_query(q{SET tcs.max_wait = -1; SET plan_cache_mode = force_generic_plan;
	SET default_transaction_isolation = 'repeatable read'});
$c->parse('f', 'SELECT folds() FROM other LIMIT 1')->bind('', 'f')->execute('')->sync->results;
$look->stop_replay;
$writer->ok_query('UPDATE folded SET a = 2; CREATE TABLE unrelated (a int)');
($token, $lsn) = last_write($writer);
$c->ok_query("SET tcs.session_token = '$token'");
$c->bind('', 'f')->execute('')->sync;
{
	my $held;

	is(outcome_of_way({}, $look->release($c, undef, \$held)), '2', 'a plan made anew in REPEATABLE READ');
}
$c->disconnect;


##
## Locks of the session
##

# What the statement gives back while it waits are its own relation locks.
$c = TcsWire->new($standby);
$writer->ok_query('CREATE TABLE s (a int); INSERT INTO s VALUES (1)');
($token, $lsn) = last_write($writer);
wait_until_replayed();
$c->ok_query('SELECT pg_advisory_lock(43)');
$look->stop_replay;
$writer->ok_query('ALTER TABLE s ADD b int; UPDATE s SET a = 2');
($token, $lsn) = last_write($writer);
$c->ok_query("SET tcs.session_token = '$token'");
$c->simple('SELECT a FROM s')->flush;
ok($look->wait_until_held($c), 'a statement waits');
is( $look->look(
		"SELECT string_agg(locktype, ',' ORDER BY locktype) FROM pg_locks WHERE pid = "
		  . $c->pid),
	'advisory,virtualxid',
	'with no relation lock, and with the advisory lock of its session');
is( $look->look(
		'SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = ' . $c->pid),
	't',
	'and no snapshot');
$look->go_on;
is(outcome_of_way({}, $c->results), '2', 'it is served');
is($c->ok_query('SELECT pg_advisory_unlock(43)'),
	't', 'and the session still has its lock');

$_->disconnect foreach ($c, $holder, $writer, $look);
done_testing();
