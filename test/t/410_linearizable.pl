# test/t/410_linearizable.pl
#
# Level "linearizable" under one primary: it shows what a quorum has confirmed,
# and nothing else, by whatever kind of statement.  Standbys are kept from
# confirming by stopping their WAL receivers; a commit then hangs on the primary,
# and one standby that is not in the quorum replays it all the same.  That commit
# must not be returned before it is confirmed, and, once it was returned, not be
# missed by the primary.  Then the settings that give no quorum, and whatever can
# happen while a read waits.  Changes of the primary are in 430.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;
use TcsWrites;

my $quorum = 'ANY 1 (standby1, standby2)';
my $eventual = '-c tcs.read_level=eventual';

# standby3 is in no quorum
my ($primary, $one, $two, $three) =
  new_cluster(standbys => 3, conf => "wal_retrieve_retry_interval = '100ms'\n");

$primary->safe_psql(
	'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0);
CREATE TABLE u (v int);
INSERT INTO u VALUES (0);
CREATE FUNCTION one_read() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT v FROM t); END$$;
-- two reads; the test can do something between them while it holds the lock
CREATE FUNCTION two_reads() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a text;
BEGIN
	a := one_read();
	PERFORM pg_advisory_lock(7), pg_advisory_unlock(7);
	RETURN a || ' ' || (SELECT v FROM t);
END$$;
CREATE PROCEDURE p_two_reads(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := two_reads(); END$$;
CREATE PROCEDURE p_commits(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := one_read(); COMMIT; r := r || ' ' || one_read(); END$$;
-- a standby's only way to show what a DO block has read
CREATE FUNCTION tell(text) RETURNS void LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RAISE NOTICE '%', $1; END$$;
-- may run in a parallel worker, where each of its statements has its own snapshot
CREATE FUNCTION parallel_reads(int) RETURNS text LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
DECLARE a text;
BEGIN
	a := (SELECT v FROM t);
	PERFORM pg_advisory_lock_shared(7);
	RETURN a || ' ' || (SELECT v FROM t);
END$$;
CREATE FUNCTION u_returning() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$DECLARE r int; BEGIN UPDATE u SET v = (SELECT v FROM t) RETURNING v INTO r; RETURN r; END$$;
});

# The other way for a standby to ask: an ordinary connection.
$two->append_conf('postgresql.conf',
	sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, $primary->connstr));
$two->reload;
set_quorum($primary, $quorum, 2);
wait_for_replay($primary, $_) foreach ($one, $two, $three);
wait_for_answer($_) foreach ($one, $two, $three);

my $value = 0;
my $writer = TcsWire->new($primary, options => $eventual);
my $look = TcsWire->new($three, options => $eventual);
my $watch = TcsWire->new($primary, options => $eventual);

# The next write.
my $write_next = counted_write(\$value, 'UPDATE t SET v = %d');

# A commit that nobody confirms, but standby3 has it.
sub hang_commit
{
	stop_receiver($one, $two);
	$value++;
	$writer->simple("UPDATE t SET v = $value")->flush;
	$look->poll("SELECT v = $value FROM t") or die 'not replayed';
	return;
}

# It is confirmed, and comes back.
sub free_commit
{
	continue_receiver($one, $two);
	my ($result) = $writer->results;

	die TcsWire::describe_result($result) if $result->{state} ne '00000';
	return;
}

sub linearizable_client
{
	my ($node, $set, $level) = @_;
	my $client =
	  TcsWire->new($node, options => '-c tcs.read_level=' . ($level // 'linearizable'));

	$client->ok_query($set) if defined $set;
	return $client;
}

# Rows or SQLSTATE of each result.  Rows that went out before an error did go
# out, so they are shown as well.
sub answers_and_rows
{
	return join(' / ',
		map {
			$_->{state} eq '00000'
			  ? TcsWire::rows_text($_)
			  : join(' ', $_->{state}, grep { length } TcsWire::rows_text($_), $_->{copy} // '')
		} @_);
}

# That session $client waits for a quorum.
sub wait_until_waiting
{
	my ($node, @clients) = @_;
	my $session = TcsWire->new($node, options => $eventual);

	$session->poll(
		sprintf q{SELECT count(*) = %d FROM pg_stat_activity WHERE state = 'active'
			AND wait_event_type = 'Extension' AND pid IN (%s)},
		scalar @clients, join(', ', map { $_->pid } @clients))
	  or die 'they do not wait';
	$session->disconnect;
	return;
}

# How many rounds have been begun between two positions of WAL.
sub rounds_between
{
	my ($from, $to) = @_;
	my ($out, $err) = run_command(
		[
			$primary->installed_command('pg_waldump'), '--path',
			$primary->data_dir . '/pg_wal', '--start', $from, '--end', $to, '--rmgr', 'XLOG'
		]);

	return scalar(() = $out =~ /NOOP/g);
}

sub inserted { return $watch->ok_query('SELECT pg_current_wal_insert_lsn()'); }


##
## Kinds of statements
##

# [what, statements or a sub that sends them, rows expected for a value];
# the value itself if nothing else is said.
my @kinds = (
	[ 'simple', 'SELECT v FROM t' ],
	[ 'extended', sub { $_[0]->extended('SELECT v FROM t WHERE id = $1', 1)->sync } ],
	[ 'a row at a time', sub { $_[0]->parse('', 'SELECT v FROM t')->bind('', '')->execute('', 1)->sync } ],
	[ 'prepared, generic plan', sub { $_[0]->bind('', 's')->execute('')->sync } ],
	[ 'EXECUTE', 'EXECUTE e' ],
	[ 'cursor', 'BEGIN; DECLARE c CURSOR FOR SELECT v FROM t; FETCH c' ],
	[ 'cursor WITH HOLD', 'DECLARE h CURSOR WITH HOLD FOR SELECT v FROM t; FETCH h; CLOSE h', sub { " / $_[0] / " } ],
	[ 'COPY', 'COPY (SELECT v FROM t) TO STDOUT' ],
	[ 'COPY of a table', 'COPY t (v) TO STDOUT' ],
	[ 'CALL', 'CALL p_two_reads(NULL)', sub { "$_[0] $_[0]" } ],
	[ 'CALL with COMMIT', 'CALL p_commits(NULL)', sub { "$_[0] $_[0]" } ],
	[ 'DO', 'DO $$BEGIN PERFORM tell(two_reads()); END$$', sub { "$_[0] $_[0]" } ],
	[ 'function', 'SELECT one_read()' ],
	[ 'function with two reads', 'SELECT two_reads()', sub { "$_[0] $_[0]" } ],
	[ 'call of the protocol', sub { $_[0]->call($_[0]->{oid}) } ],
	[ 'EXPLAIN ANALYZE', 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT FROM generate_series(1, one_read())' ],
	[ 'transaction', 'BEGIN; SELECT v FROM t' ],
	[ 'REPEATABLE READ', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t' ],
	[ 'savepoint', 'BEGIN; SAVEPOINT s; SELECT v FROM t' ],
	[ 'string', 'SELECT v FROM t; SELECT v FROM t', sub { "$_[0] / $_[0]" } ],
	[ 'pipeline', sub { $_[0]->extended('SELECT v FROM t')->extended('SELECT v FROM t')->sync },
		sub { "$_[0] / $_[0]" } ],
	[ 'CTE', 'WITH w AS MATERIALIZED (SELECT v FROM t) SELECT v FROM w' ],);
my @kinds_of_primary = (
	[ 'FOR UPDATE', 'SELECT v FROM t WHERE id < 2 FOR UPDATE' ],
	[ 'UPDATE RETURNING', 'UPDATE u SET v = (SELECT v FROM t) RETURNING v' ],
	[ 'INSERT SELECT RETURNING', 'INSERT INTO u SELECT v FROM t RETURNING v' ],
	[ 'WITH INSERT', 'WITH w AS (INSERT INTO u SELECT v FROM t RETURNING v) SELECT v FROM w' ],
	[ 'DELETE RETURNING', 'DELETE FROM u WHERE v = (SELECT v FROM t) RETURNING v', sub { "$_[0]\n$_[0]\n$_[0]" } ],
	[ 'function with RETURNING', 'INSERT INTO u VALUES (0); SELECT u_returning()', sub { " / $_[0]" } ],
	[ 'CREATE TABLE AS', 'CREATE TEMP TABLE a AS SELECT v FROM t; SELECT v FROM a; DROP TABLE a', sub { " / $_[0] / " } ],
	[ 'SERIALIZABLE', 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT v FROM t' ],);

sub kind_client
{
	my ($node, $set) = @_;
	my $c = linearizable_client($node, q{SET plan_cache_mode = 'force_generic_plan'; PREPARE e AS SELECT v FROM t});

	$c->{oid} = $watch->ok_query(q{SELECT 'one_read'::regproc::oid});
	$c->parse('s', 'SELECT v FROM t')->sync->results;
	$c->ok_query($set) if defined $set;
	return $c;
}

# What a kind of statement shows.
sub kind_shown
{
	my ($c, $kind) = @_;
	my ($what, $send) = @$kind;
	my $notices = $c->notices;
	my @results = ref $send ? $send->($c)->results : $c->query($send);
	my $text = answers_and_rows(@results);

	$c->query('ROLLBACK') if $c->status ne 'I';
	if ((my @new = ($c->notices)[ $notices .. $c->notices - 1 ]) > 0)
	{
		$text .= join(' ', map { $_->{S} eq 'NOTICE' ? $_->{M} : () } @new);
	}
	$text = $1 if $text =~ /actual rows=(\d+)/;
	$text =~ s/\A(?: \/ )+// if !$kind->[2];
	$text = $results[0]{copy} =~ s/\n//r if $what =~ /^COPY/ && $results[0]{state} eq '00000';
	return $text;
}

sub all_kinds
{
	my ($node) = @_;

	return $node == $primary ? (@kinds, @kinds_of_primary) : @kinds;
}

sub kinds_show
{
	my ($when, @nodes) = @_;

	foreach my $node (@nodes)
	{
		my $c = kind_client($node, q{SET tcs.max_wait = '60s'});

		is( join("\n", map { $_->[0] . ': ' . kind_shown($c, $_) } all_kinds($node)),
			join("\n", map { $_->[0] . ': ' . ($_->[2] ? $_->[2]->($value) : $value) } all_kinds($node)),
			"$when, " . $node->name . ': each kind of statement');
		$c->disconnect;
	}
	return;
}

sub kinds_are_refused
{
	my ($when, @nodes) = @_;

	foreach my $node (@nodes)
	{
		my $c = kind_client($node, 'SET tcs.max_wait = 20');

		# whose receiver is stopped can be behind as well
		my $state = $node == $one || $node == $two ? 'TC00[14]' : 'TC004';

		# the first error, with what went out before it
		is( join("\n", map { $_->[0] . ': ' . (kind_shown($c, $_) =~ s/^[ \/]+//r =~ s/^$state$/refused/r) } all_kinds($node)),
			join("\n", map { $_->[0] . ': refused' } all_kinds($node)),
			"$when, " . $node->name . ': each kind is refused, and shows nothing');
		my ($result) = $c->query('SELECT v FROM t');

		if ($state eq 'TC004')
		{
			like($result->{error}{M},
				$node == $primary ? qr/whether this server still was the primary/
				: qr/whether the primary still was one/,
				'... is told why');
			like($result->{error}{D}, qr/quorum of synchronous standbys has (?:not )?confirmed/, '... with details');
		}
		is($c->ok_query('SELECT outcome FROM tcs.last_read()'), 'refused', '... and tcs.last_read() knows');
		$c->disconnect;
	}
	return;
}

$write_next->($writer);
kinds_show('quorum', $primary, $one, $two, $three);

# A commit that standby3 has replayed; the others have not.
hang_commit();
is(read_at($three, 'SELECT v FROM t', level => 'strong'), $value,
	'strong returns what may be lost');
kinds_are_refused('no quorum', $primary, $one, $two, $three);

# cancelled, it is visible on the primary and not confirmed yet
$watch->ok_query('SELECT pg_cancel_backend(' . $writer->pid . ')');
is(answers_and_rows($writer->results), '', 'the commit is not waited for any more');
is($watch->ok_query('SELECT v FROM t'), $value, '... and is visible on the primary');
kinds_are_refused('no quorum, visible', $primary, $three);
continue_receiver($one, $two);
kinds_show('quorum again', $primary, $one, $two, $three);


##
## One confirmation for a REPEATABLE READ transaction
##

foreach my $node ($primary, $three)
{
	my $name = $node->name;
	my %client = map { $_ => linearizable_client($node) } ('READ COMMITTED', 'REPEATABLE READ');

	foreach my $isolation (sort keys %client)
	{
		my $c = $client{$isolation};
		my $from = inserted();

		$c->ok_query("BEGIN ISOLATION LEVEL $isolation; SELECT v FROM t");
		$c->ok_query('DECLARE c CURSOR FOR SELECT v FROM t');
		is($c->ok_query('SELECT v FROM t; SELECT v FROM t; SELECT two_reads()'),
			"$value $value", "$name, $isolation");
		my $n = rounds_between($from, inserted());

		cmp_ok($n, $isolation eq 'READ COMMITTED' ? '>=' : '<=',
			$isolation eq 'READ COMMITTED' ? 2 : 1, "... rounds: $n");
	}
	my $before = $value;

	hang_commit();
	$_->ok_query('SET LOCAL tcs.max_wait = 20') foreach values %client;
	is(answers_and_rows($_->query('FETCH c')), $before, "$name: a cursor reads on") foreach values %client;
	is(answers_and_rows($client{'REPEATABLE READ'}->query('SELECT v FROM t; SELECT two_reads()')),
		"$before / $before $before", '... REPEATABLE READ needs no other confirmation');
	is(answers_and_rows($client{'READ COMMITTED'}->query('SELECT v FROM t')),
		'TC004', '... each statement of READ COMMITTED does');
	$_->query('ROLLBACK') foreach values %client;
	free_commit();
	is($_->ok_query('SELECT v FROM t'), $value, '... and sees it then') foreach values %client;
	$_->disconnect foreach values %client;
}


##
## The second statement of a function
##

foreach my $node ($primary, $three)
{
	my $holder = TcsWire->new($node, options => $eventual);

	foreach my $wait (20, -1)
	{
		my $c = linearizable_client($node, "SET tcs.max_wait = $wait");
		my $before = $value;

		$holder->ok_query('SELECT pg_advisory_lock(7)');
		$c->simple('SELECT two_reads()')->flush;
		$holder->poll('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ' . $c->pid)
		  or die 'it does not wait';
		hang_commit();
		$holder->ok_query('SELECT pg_advisory_unlock(7)');
		wait_until_waiting($node, $c) if $wait < 0;
		free_commit() if $wait < 0;
		my $expected = $wait < 0 ? "$before $value" : 'TC004';

		# On the primary the commit is not visible when the second statement begins,
		# which waits for the confirmation of what it shows, not for more.
		$expected = "$before $before" if $wait < 0 && $node == $primary;
		is(answers_and_rows($c->results), $expected,
			$node->name . ', function: what its second statement shows is confirmed, max_wait ' . $wait);
		free_commit() if $wait >= 0;
		$c->disconnect;
	}

	# in a parallel worker
	my $forced = server_version($node) < 16 ? 'force_parallel_mode' : 'debug_parallel_query';

	foreach my $fallback ('error', 'strong, error')
	{
		my $c = linearizable_client($node, "SET $forced = on; SET tcs.max_wait = 20; SET tcs.fallback = '$fallback'");
		my $before = $value;

		$holder->ok_query('SELECT pg_advisory_lock(7)');
		$c->simple('SELECT parallel_reads(v) FROM t')->flush;
		$holder->poll(q{SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE NOT granted AND backend_type = 'parallel worker'})
		  or die 'no parallel worker waits';
		hang_commit();
		$holder->ok_query('SELECT pg_advisory_unlock(7)');
		is(answers_and_rows($c->results),
			$fallback eq 'error' ? 'TC004' : $node == $primary ? "$before $before" : "$before $value",
			$node->name . ", parallel worker, fallback '$fallback'");
		like(join('', map { $_->{M} } $c->notices), qr/served at level "strong" instead of/, '... with a warning')
		  if $fallback ne 'error';
		free_commit();
		is(answers_and_rows($c->query(q{SET tcs.max_wait = '60s'; SELECT parallel_reads(v) FROM t})),
			" / $value $value", '... confirmed');
		$c->disconnect;
	}
	$holder->disconnect;
}


##
## One round serves many
##

foreach my $node ($primary, $one, $three)
{
	my $n = 30;
	my @clients = map { linearizable_client($node, 'SET tcs.max_wait = -1') } 1 .. $n;

	stop_receiver($one, $two);
	my $from = inserted();

	$_->simple('SELECT v FROM t')->flush foreach @clients;
	wait_until_waiting($node, @clients);
	is($look->ok_query('SELECT waiting_sessions FROM tcs.status()'), $n, '... tcs.status() counts them')
	  if $node == $three;
	continue_receiver($one, $two);
	is( join(' ', map { answers_and_rows($_->results) } @clients),
		join(' ', ($value) x $n),
		$node->name . ": $n readers");
	my $rounds = rounds_between($from, inserted());

	cmp_ok($rounds, '>=', 1, '... a round');
	cmp_ok($rounds, '<=', 5, '... serves many');
	$_->disconnect foreach @clients;
}


##
## A commit that hangs and is confirmed
##

# It waits until a standby has replayed it, and a quorum has flushed it: a
# linearizable read of standby3 may return it, and then nobody may miss it.
foreach my $way ('COMMIT', 'COMMIT PREPARED')
{
	my $before = $value++;
	my $c = linearizable_client($three, q{SET tcs.max_wait = '60s'});
	my $on_primary = linearizable_client($primary, 'SET tcs.max_wait = 50');
	my $patient = linearizable_client($primary, 'SET tcs.max_wait = -1');
	my $repeatable = linearizable_client($primary, 'SET tcs.max_wait = 50');
	my $on_one = linearizable_client($one, 'SET tcs.max_wait = 50');
	my $commit = "UPDATE t SET v = $value";

	if ($way eq 'COMMIT PREPARED')
	{
		$writer->ok_query("BEGIN; $commit; PREPARE TRANSACTION 'p'");
		$commit = "COMMIT PREPARED 'p'";
	}
	$writer->ok_query('SET synchronous_commit = remote_apply');
	stop_receiver($two);
	pause_replay($one);
	$repeatable->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t');
	$writer->simple($commit)->flush;
	$look->poll("SELECT v = $value FROM t") or die 'not replayed';
	is(answers_and_rows($c->query('SELECT v FROM t')), $value, "$way, replayed and confirmed: a standby returns it");
	is($watch->ok_query('SELECT v FROM t'), $before, '... the primary does not see it');

	my ($result) = $on_primary->query('SELECT v FROM t');
	is($result->{state}, 'TC001', '... and does not show the old value, either');
	like($result->{error}{M}, qr/commit .* not visible here yet/, '... says why');
	unlike($result->{error}{D}, qr/token/, '... not by a token, which there is none');
	like($result->{error}{H}, qr/SyncRep/, '... and what to look at');
	is(answers_and_rows($on_primary->query($_)), 'TC001', "... by $_")
	  foreach ('SELECT one_read()', 'COPY t TO STDOUT', 'UPDATE u SET v = v RETURNING v',
		'CALL p_two_reads(NULL)');
	is(answers_and_rows($on_primary->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t')),
		' / TC001', '... in REPEATABLE READ');
	$on_primary->query('ROLLBACK');
	is($repeatable->ok_query('SELECT v FROM t'), $before, '... unless the transaction is older');
	is(answers_and_rows($on_one->query('SELECT v FROM t')), 'TC001', '... a standby that has not replayed it waits');

	$patient->simple('SELECT v FROM t')->flush;
	wait_until_waiting($primary, $patient);
	resume_replay($one);
	is(answers_and_rows($writer->results), '', 'it comes back');
	is(answers_and_rows($patient->results), $value, '... and is seen by who has waited for it');
	is(answers_and_rows($_->query('SELECT v FROM t')), $value, '... and by all others') foreach ($on_primary, $c);
	is(read_at($one, 'SELECT v FROM t', level => 'linearizable', max_wait => '60s'),
		$value, '... on the standby, too');
	$writer->ok_query('RESET synchronous_commit');
	continue_receiver($two);
	$_->disconnect foreach ($c, $on_primary, $patient, $repeatable, $on_one);
}

# FIRST: the standby that has it is not the one that counts.
{
	set_quorum($primary, 'FIRST 1 (standby1, standby2)', 2);
	stop_receiver($one);
	my $before = $value++;
	my $on_two = TcsWire->new($two, options => $eventual);
	my $patient = linearizable_client($two, 'SET tcs.max_wait = -1');

	$writer->simple("UPDATE t SET v = $value")->flush;
	$on_two->poll("SELECT v = $value FROM t") or die 'not replayed';
	is(psql_err($_, 'SELECT v FROM t', level => 'linearizable', max_wait => 50),
		'TC004', 'FIRST 1: only the first counts, ' . $_->name) foreach ($two, $three, $primary);
	$patient->simple('SELECT v FROM t')->flush;
	wait_until_waiting($two, $patient);
	continue_receiver($one);
	is(answers_and_rows($writer->results, $patient->results), " / $value", '... and then it does');
	is(read_at($_, 'SELECT v FROM t', level => 'linearizable', max_wait => '60s'), $value, '... everywhere')
	  foreach ($primary, $one, $two, $three);
	set_quorum($primary, 'FIRST 2 (standby1, standby2)', 2);
	stop_receiver($two);
	is(psql_err($_, 'SELECT v FROM t', level => 'linearizable', max_wait => 50),
		'TC004', 'FIRST 2: both count, ' . $_->name) foreach ($primary, $three);
	continue_receiver($two);
	$_->disconnect foreach ($on_two, $patient);
}


##
## No usable quorum
##

set_quorum($primary, $quorum, 2);
{
	my @nodes = ($primary, $one, $two, $three);
	my %client = map { $_->name => linearizable_client($_) } @nodes;
	my %bad = (
		'' => qr/synchronous_standby_names is empty/,
		'*' => qr/contains "\*"/,
		'ANY 1 (standby1, "*")' => qr/contains "\*"/,
		'ANY 1 (standby1, standby2, standby3)' => qr/two halves/,
		'FIRST 1 (standby1, standby2, standby3)' => qr/two halves/,
		'standby1, standby2, standby3' => qr/two halves/,
		'ANY 1 (standby1, standby2, standby4, standby5)' => qr/two halves/,
		'ANY 1 (standby1, standby2, STANDBY1, standby4)' => qr/two halves/,);

	foreach my $names (sort keys %bad)
	{
		is(answers_and_rows($client{ $_->name }->query('SELECT v FROM t')), $value, 'a quorum, ' . $_->name)
		  foreach @nodes;
		set_quorum($primary, $names);
		foreach my $node (@nodes)
		{
			my $c = $client{ $node->name };
			my ($result) = $c->query('SELECT v FROM t');

			is($result->{state}, '55000', "\"$names\", " . $node->name);
			like($result->{error}{D}, $bad{$names}, '... says what is wrong');
			like($result->{error}{H}, qr/ANY 1 \(b, c\).*tcs\.fallback/, '... and what to do');
			next if length $names;

			is(answers_and_rows($c->query('BEGIN; SELECT v FROM t')), ' / 55000', '... in a transaction');
			$c->query('ROLLBACK');
			is(answers_and_rows($c->query(q{SELECT tcs.can_serve('linearizable')})), 'f', '... tcs.can_serve()');
			my $downgraded =
			  q{SELECT downgraded FROM tcs.stat_reads WHERE level = 'linearizable'};
			my $count = $c->ok_query($downgraded);

			$c->ok_query(q{SET tcs.fallback = 'strong, error'});
			is(answers_and_rows($c->query('SELECT v FROM t')), $value, '... fallback to strong');
			my $warning = ($c->notices)[-1];

			is("$warning->{S} $warning->{C}", 'WARNING 55000', '... with a warning');
			like($warning->{M}, qr/served at level "strong" instead of "linearizable"/, '... that says so');
			is($c->ok_query($downgraded), $count + 1, '... and counted');
			$c->ok_query('RESET tcs.fallback');
		}
		set_quorum($primary, $quorum, 2);
	}
	is(answers_and_rows($client{ $_->name }->query('SELECT v FROM t')), $value, 'a quorum again, ' . $_->name)
	  foreach @nodes;
	is($client{ $_->name }->ok_query(q{SELECT tcs.can_serve('linearizable')}), 't', '... tcs.can_serve()')
	  foreach @nodes;

	# other lists that are as good
	foreach my $names (
		'ANY 1 (standby1, STANDBY1, standby2)',
		'standby1, standby2',
		'FIRST 2 (standby1, standby2, standby3)',
		'ANY 2 (standby1, standby2, standby3)',
		'ANY 1 (standby1)')
	{
		set_quorum($primary, $names, $names =~ /standby2/ ? 2 : 1);
		is(answers_and_rows($client{ $_->name }->query('SELECT v FROM t')), $value, "\"$names\", " . $_->name)
		  foreach @nodes;
	}
	set_quorum($primary, $quorum, 2);

	# emptied while a read waits
	$_->ok_query('SET tcs.max_wait = -1') foreach values %client;
	stop_receiver($one, $two);
	$_->simple('SELECT v FROM t')->flush foreach values %client;
	wait_until_waiting($_, $client{ $_->name }) foreach @nodes;
	set_quorum($primary, '');
	is(answers_and_rows($client{ $_->name }->results), '55000', 'emptied while a read waits, ' . $_->name)
	  foreach @nodes;
	continue_receiver($one, $two);
	set_quorum($primary, $quorum, 2);

	# two standbys of one name
	$three->enable_streaming($primary);
	$three->append_conf('postgresql.conf',
		sprintf q{primary_conninfo = '%s application_name=standby1'}, $primary->connstr);
	$three->reload;
	$watch->poll(q{SELECT count(*) = 2 FROM pg_stat_replication
		WHERE application_name = 'standby1' AND state = 'streaming'})
	  or die 'no namesakes';
	wait_for_answer($three);
	foreach my $node (@nodes)
	{
		my ($result) = $client{ $node->name }->query('SELECT v FROM t');

		is($result->{state}, '55000', 'namesakes, ' . $node->name);
		like($result->{error}{D}, qr/the same name/, '... says so');
	}
	$three->enable_streaming($primary);
	$three->reload;
	$watch->poll(q{SELECT count(*) = 1 FROM pg_stat_replication
		WHERE application_name = 'standby3' AND state = 'streaming'})
	  or die 'namesakes still';
	wait_for_answer($three);
	is(answers_and_rows($client{ $_->name }->query('SELECT v FROM t')), $value, '... and no more, ' . $_->name)
	  foreach @nodes;
	$_->disconnect foreach values %client;
}


##
## Whatever happens while a read waits
##

foreach my $node ($primary, $one, $three)
{
	my $name = $node->name;
	my $c = linearizable_client($node, 'SET tcs.max_wait = 0');

	is(answers_and_rows($c->query('SELECT v FROM t')), 'TC004', "$name: max_wait = 0 never gets its answer");
	is(answers_and_rows($c->query('BEGIN; SELECT v FROM t')), ' / TC004', '... in a transaction');
	$c->query('ROLLBACK');
	$c->ok_query('SET tcs.max_wait = -1');
	stop_receiver($one, $two);

	# cancelled, timed out
	$c->simple('SELECT v FROM t')->flush;
	wait_until_waiting($node, $c);
	my $session = TcsWire->new($node, options => $eventual);

	$session->ok_query('SELECT pg_cancel_backend(' . $c->pid . ')');
	is(answers_and_rows($c->results), '57014', "$name: cancelled");
	$c->ok_query(q{SET statement_timeout = '100ms'});
	is(answers_and_rows($c->query('SELECT v FROM t')), '57014', '... timed out');
	is(answers_and_rows($c->query(q{BEGIN; SAVEPOINT s; SELECT v FROM t})), ' /  / 57014', '... in a savepoint');
	is(answers_and_rows($c->query('ROLLBACK TO s; SET LOCAL statement_timeout = 0; SET LOCAL tcs.max_wait = 20; SELECT v FROM t')),
		' /  /  / TC004', '... and again');
	$c->query('ROLLBACK');
	$c->ok_query('RESET statement_timeout');

	# the session goes
	my $gone = linearizable_client($node, 'SET tcs.max_wait = -1');

	$gone->simple('SELECT v FROM t')->flush;
	wait_until_waiting($node, $gone);
	$session->ok_query('SELECT pg_terminate_backend(' . $gone->pid . ')');
	is(answers_and_rows(($gone->results)[0]), '57P01', "$name: terminated");
	is($session->ok_query('SELECT coalesce(waiting_sessions, 0) FROM tcs.status()'), '0',
		'... nobody is left in the queue');

	# with the one that began the round gone, the others still are served
	my @many = map { linearizable_client($node, 'SET tcs.max_wait = -1') } 1 .. 4;

	foreach my $client (@many)
	{
		$client->simple('SELECT v FROM t')->flush;
		wait_until_waiting($node, $client);
	}
	$session->ok_query('SELECT pg_cancel_backend(' . $many[0]->pid . ')');
	is(answers_and_rows($many[0]->results), '57014', "$name: the first is cancelled");
	continue_receiver($one, $two);
	is(join(' ', map { answers_and_rows($_->results) } @many[ 1 .. 3 ]), join(' ', ($value) x 3), '... the others are served');
	is(answers_and_rows($c->query('SELECT v FROM t')), $value, '... and so is the next read');
	$_->disconnect foreach ($c, @many, $session);
}

# Switched off: what waits is let go.
foreach my $node ($primary, $three)
{
	my @waiting = map { linearizable_client($node, 'SET tcs.max_wait = -1') } 1 .. 2;

	stop_receiver($one, $two);
	$waiting[1]->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$_->simple('SELECT v FROM t')->flush foreach @waiting;
	wait_until_waiting($node, @waiting);
	$node->append_conf('postgresql.conf', 'tcs.enabled = off');
	$node->reload;
	is(answers_and_rows($_->results), $value, $node->name . ': tcs.enabled = off lets it go') foreach @waiting;
	is($waiting[0]->ok_query('SELECT v FROM t'), $value, '... and the next does not wait');
	$node->append_conf('postgresql.conf', 'tcs.enabled = on');
	$node->reload;
	$node->poll_query_until('postgres', 'SHOW tcs.enabled', 'on');
	is(answers_and_rows($waiting[0]->query('SET tcs.max_wait = 50; SELECT v FROM t')), ' / TC004', '... until it is on');
	continue_receiver($one, $two);
	is(answers_and_rows($waiting[0]->query(q{SET tcs.max_wait = '60s'; SELECT v FROM t})), " / $value", '... and confirmed');
	$_->disconnect foreach @waiting;
}

# The worker is killed.
{
	my $c = linearizable_client($three, 'SET tcs.max_wait = -1');
	my $pid = $look->ok_query('SELECT worker_pid FROM tcs.status()');

	hang_commit();
	$c->simple('SELECT v FROM t')->flush;
	wait_until_waiting($three, $c);
	kill('TERM', $pid) or die "cannot end process $pid: $!";
	$look->poll("SELECT worker_pid <> $pid FROM tcs.status() WHERE worker_pid IS NOT NULL")
	  or die 'no other worker';
	wait_for_answer($three);
	ok(!$c->answered, 'worker killed: the read waits on');
	is(answers_and_rows(linearizable_client($three, 'SET tcs.max_wait = 50')->query('SELECT v FROM t')), 'TC004', '... as others do');
	free_commit();
	is(answers_and_rows($c->results), $value, '... and is confirmed');
	$c->disconnect;
}

# A standby is restarted.
{
	my $c = linearizable_client($three, 'SET tcs.max_wait = -1');

	hang_commit();
	$c->simple('SELECT v FROM t')->flush;
	wait_until_waiting($three, $c);
	$look->disconnect;
	$three->stop('immediate');
	$three->start;
	is(($c->results)[-1]{state}, '08006', 'standby restarted: the read is lost');
	is(psql_err($three, 'SELECT v FROM t', level => 'linearizable', max_wait => 50),
		'TC004', '... another one is refused');
	free_commit();
	is(read_at($three, 'SELECT v FROM t', level => 'linearizable', max_wait => '60s'), $value, '... until it is confirmed');
	$look = TcsWire->new($three, options => $eventual);
}

# The primary crashes.
{
	my $before = $value;
	my $c = linearizable_client($three, 'SET tcs.max_wait = -1');
	my $on_primary = linearizable_client($primary, 'SET tcs.max_wait = -1');

	hang_commit();
	$c->simple('SELECT v FROM t')->flush;
	$on_primary->simple('SELECT v FROM t')->flush;
	wait_until_waiting($three, $c);
	wait_until_waiting($primary, $on_primary);
	$primary->stop('immediate');
	is(($_->results)[-1]{state}, '08006', 'primary crashed: its sessions are lost') foreach ($on_primary, $writer);
	is(psql_err($_, 'SELECT v FROM t', level => 'linearizable', max_wait => 50),
		'TC004', '... standbys refuse, ' . $_->name) foreach ($one, $three);
	$primary->start;
	ok(!$c->answered, '... also when it is back alone');
	is(psql_err($primary, 'SELECT v FROM t', level => 'linearizable', max_wait => 50),
		'TC004', '... as it does itself');
	is(read_at($primary, 'SELECT v FROM t', level => 'eventual'), $value, '... which has it');
	continue_receiver($one, $two);
	is(answers_and_rows($c->results), $value, '... what waits is served when there is a quorum again');
	is(read_at($_, 'SELECT v FROM t', level => 'linearizable', max_wait => '60s'), $value, '... as are all others, ' . $_->name)
	  foreach ($primary, $one, $two, $three);
	$c->disconnect;
}


##
## Redirect
##

# The statement is confirmed where it runs.
redirect_to($primary);
wait_for_replay($primary, $three);
$writer = TcsWire->new($primary, options => $eventual);
{
	my %client = map {
		$_ => linearizable_client($three, q{SET tcs.redirect_after = 0; SET tcs.max_wait = '200ms'})
	} ('READ COMMITTED', 'REPEATABLE READ');

	pause_replay($three);
	$write_next->($writer);
	foreach my $isolation (sort keys %client)
	{
		my $c = $client{$isolation};

		is(answers_and_rows($c->query("BEGIN ISOLATION LEVEL $isolation; SELECT v FROM t")),
			" / $value", "redirected, $isolation");
		is($c->ok_query('SELECT outcome FROM tcs.last_read()'), 'redirected', '... it is');
	}
	stop_receiver($one, $two);
	is(answers_and_rows($client{'REPEATABLE READ'}->query('SELECT v FROM t')),
		$value, 'no quorum: a REPEATABLE READ transaction reads on');
	like(answers_and_rows($client{'READ COMMITTED'}->query('SELECT v FROM t')),
		qr/^TC00[14]$/, '... a new statement is refused');
	like(psql_err($three, 'SELECT v FROM t', level => 'linearizable', max_wait => '200ms'),
		qr/^TC00[14]$/, '... and any other');
	continue_receiver($one, $two);
	is(read_at($three, 'SELECT v FROM t', level => 'linearizable', max_wait => '60s'), $value, '... until there is one');
	$_->disconnect foreach values %client;
	resume_replay($three);
}

done_testing();
