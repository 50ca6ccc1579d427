# test/t/412_linearizable_statements.pl
#
# Level "linearizable" by whatever kind of statement: with a quorum each shows
# what is confirmed, without one each is refused and shows nothing. One
# confirmation is enough for a transaction of REPEATABLE READ; the second
# statement of a function needs its own (see TcsQuorum.pm).

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsQuorum;
use TcsTest;
use TcsWire;

quorum_nodes();


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
		is($c->ok_query('SELECT outcome FROM tcs.last_read'), 'refused', '... and tcs.last_read knows');
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

done_testing();
