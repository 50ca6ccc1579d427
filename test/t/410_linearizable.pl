# test/t/410_linearizable.pl
#
# Level "linearizable" under one primary: it shows what a quorum has confirmed,
# and nothing else. Standbys are kept from confirming by stopping their WAL
# receivers; a commit then hangs on the primary, and one standby that is not in
# the quorum replays it all the same. That commit must not be returned before it
# is confirmed, and, once it was returned, not be missed by the primary. Then the
# settings that give no quorum, and whatever can happen while a read waits. Each
# kind of statement is in 412, changes of the primary are in 430.

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
	is($look->ok_query('SELECT waiting_sessions FROM tcs.status'), $n, '... tcs.status counts them')
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
	is($session->ok_query('SELECT coalesce(waiting_sessions, 0) FROM tcs.status'), '0',
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
	my $pid = $look->ok_query('SELECT worker_pid FROM tcs.status');

	hang_commit();
	$c->simple('SELECT v FROM t')->flush;
	wait_until_waiting($three, $c);
	kill('TERM', $pid) or die "cannot end process $pid: $!";
	$look->poll("SELECT worker_pid <> $pid FROM tcs.status WHERE worker_pid IS NOT NULL")
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
		is($c->ok_query('SELECT outcome FROM tcs.last_read'), 'redirected', '... it is');
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
