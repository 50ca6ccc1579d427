# test/t/550_redirect_faults.pl
#
# What can go wrong on the way to the primary and back while a read is redirected:
# a primary that is down before, during and after a statement, a link that stalls
# or is cut at any byte, a remote backend that is terminated, a failover while a
# cursor is half read. Each time the statement ends with the right rows, with the
# next step of tcs.fallback, or with an error that says to retry; nothing is left
# running on the primary; the session goes on. What clients do is in 552.
#
# Replay stands still all the time: rows that are "new" come from the primary.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsFaults;
use TcsRedirect;
use TcsResults;
use TcsTest;
use TcsWire;

my ($primary, $standby, $heir, $proxy, $token) = faulty_nodes();

# Two connections that only look.
my $at_primary = TcsWire->new($primary);
my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

is(described(redirect_session($standby, $token, server => 'by_proxy'), $read), 'new', 'through the proxy: redirected');
wait_for_connections($at_standby, 0);


##
## The link stalls
##

subtest 'a link that stalls' => sub {
	my $client = redirect_session($standby, $token, server => 'by_proxy');

	$client->ok_query(q{SET tcs.redirect_timeout = '300ms'});
	$proxy->tell('stall');

	my ($state, $message) = state_and_message($client, $read);

	is($state, 'TC001', 'no new connection: tcs.redirect_timeout, then the next step');
	like($message, qr/no connection within tcs\.redirect_timeout \(300 ms\)/, '... and it says why');
	is(described($client, "SET tcs.fallback = 'redirect, eventual'; $read"),
		'old', '... the next step may be a weaker level');
	ok(wait_for_connections($at_standby, 0), '... and nothing is left');

	$proxy->tell('cut');
	$proxy->tell('pass');
	$client->ok_query('RESET tcs.fallback');
	check_session_goes_on('the link is back', $client);

	$proxy->tell('stall');
	($state, $message) = state_and_message($client, $read);
	is($state, 'TC001', 'a kept connection: tcs.redirect_timeout, then the next step');
	like($message, qr/no answer within tcs\.redirect_timeout \(300 ms\)/, '... and it says why');
	$proxy->tell('cut');
	$proxy->tell('pass');
	check_session_goes_on('the link is back', $client);

	# a kept connection that is dead, and a way that is not
	my $patient = redirect_session($standby, $token, server => 'by_proxy');

	$patient->ok_query($read);
	$proxy->tell('stall_old');
	$patient->simple($read)->flush;
	$at_standby->poll('SELECT count(*) = 1 FROM pg_stat_activity'
		  . " WHERE state = 'active' AND pid = " . $patient->pid);
	$proxy->tell('cut');
	is(TcsWire::describe_result(($patient->results)[-1]),
		'new', 'a kept connection that is cut while it begins: a new one is made');

	# the first of two hosts is silent
	my $choosy = redirect_session($standby, $token, server => 'proxy_first');

	$choosy->ok_query(q{SET tcs.redirect_timeout = '2s'});
	$proxy->tell('stall');
	is(described($choosy, $read), 'new', 'a host that is silent: the next one in the list');
	$proxy->tell('cut');
	$choosy->disconnect;

	# after it has begun, the client decides how long it waits
	$proxy->tell('pass');
	start_endless($at_primary, $client);
	$proxy->tell('stall_old');
	$at_standby->ok_query('SELECT pg_cancel_backend(' . $client->pid . ')');
	is((($client->results)[-1])->{state}, '57014', 'stalled while it runs: can be cancelled');
	check_session_goes_on('cancelled', $client);
	$proxy->tell('cut');
	$proxy->tell('pass');
	check_session_goes_on('the link is back', $client);

	# in the middle of the rows
	$client->ok_query('BEGIN; DECLARE c CURSOR FOR ' . $large);
	is(count_right(($client->query('FETCH 10 FROM c'))[0]{rows}, 1), 10, 'some rows');
	$proxy->tell('stall_old');
	is( (state_and_message($client, q{SET LOCAL statement_timeout = '300ms'; FETCH ALL FROM c}))[0],
		'57014', 'stalled between rows: statement_timeout');
	$client->ok_query('ROLLBACK');
	check_session_goes_on('timed out', $client);
	$proxy->tell('cut');
	$proxy->tell('pass');
	$client->disconnect;
	$patient->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## The link is cut
##

subtest 'a link that is cut' => sub {
	my $client = redirect_session($standby, $token, server => 'by_proxy');

	$client->ok_query($read);
	$proxy->tell('cut');
	is(described($client, $read), 'new', 'cut between statements: nothing is noticed');

	start_endless($at_primary, $client);
	$proxy->tell('cut');
	is((($client->results)[-1])->{state}, '08006', 'cut while a statement runs: an error');
	check_session_goes_on('after that', $client);

	$client->ok_query('BEGIN; DECLARE c CURSOR FOR ' . $large);
	is(count_right(($client->query('FETCH 10 FROM c'))[0]{rows}, 1), 10, 'some rows');
	$proxy->tell('cut');
	is((state_and_message($client, 'FETCH ALL FROM c'))[0], '08006', 'cut between rows: an error');
	is((state_and_message($client, $read))[0], '25P02', '... that the transaction remembers');
	$client->ok_query('ROLLBACK');
	check_session_goes_on('after that', $client);

	$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(described($client, $read), 'new', 'REPEATABLE READ');
	$proxy->tell('cut');
	is((state_and_message($client, $read))[0], '08006', 'cut between its statements: an error');
	$client->ok_query('ROLLBACK');
	check_session_goes_on('after that', $client);
	$client->disconnect;
};

# Each time the connection ends at another byte of what the primary says.
subtest 'cut at any byte' => sub {
	my %seen;
	my $three = 'SELECT id, v FROM t WHERE id <= 3 ORDER BY id';
	my $right = "1|new\n2|new\n3|new";

	foreach my $kept (0, 1)
	{
		my $ended = 0;

		for (my $bytes = 0; $bytes < 3000; $bytes += 41)
		{
			my $client = redirect_session($standby, $token, server => 'by_proxy');

			$client->ok_query($read) if $kept;
			$proxy->tell('cut_after', $bytes);

			my $last = ($client->query($three))[-1];
			my $what = $last->{state} ne '00000' ? $last->{state}
			  : TcsWire::rows_text($last) eq $right ? 'right'
			  : 'wrong: ' . TcsWire::rows_text($last);

			$proxy->tell('pass');
			$seen{$kept}{$what}++;
			$seen{$kept}{"then $_"}++
			  foreach grep { $_ ne $right } described($client, $three);
			$client->disconnect;

			# beyond all that there was to say
			$ended = $what eq 'right' ? $ended + 1 : 0;
			last if $bytes > 1000 && $ended > 4;
		}
		my $all = join ', ', map { "$_: $seen{$kept}{$_}" } sort keys %{ $seen{$kept} };

		note($all);
		is(scalar(grep { !/^(right|TC001|08006)$/ } keys %{ $seen{$kept} }),
			0, ($kept ? 'a kept' : 'a new')
			. ' connection: right rows, the next step, or an error; and then right rows')
		  or diag($all);
	}
	cmp_ok($seen{0}{TC001}, '>', 0, 'while it connects: the next step');
	is($seen{1}{TC001}, undef, 'a kept connection is made anew');
	cmp_ok($seen{$_}{'08006'}, '>', 0, 'once it has begun: an error') foreach (0, 1);
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

# The same, but the link stalls: the session decides how long it waits.  Behind
# the last row only the answer to COMMIT is missing, which has its own timeout.
subtest 'stalled at any byte' => sub {
	my %seen;
	my $client;

	for (my $bytes = 0; $bytes < 1300; $bytes += 31)
	{
		$client = redirect_session($standby, $token, server => 'by_proxy');
		$client->ok_query(q{SET tcs.redirect_timeout = '50ms'; SET statement_timeout = '500ms'});
		$proxy->tell('stall_after', $bytes);

		my $last = ($client->query($read))[-1];

		my $rows = TcsWire::rows_text($last);

		$seen{ $last->{state} eq '00000' ? $rows
			: $last->{state} eq '08006' ? "$rows, then 08006"
			: $last->{state} }++;
		$proxy->tell('cut');
		$proxy->tell('pass');
		$client->ok_query('RESET tcs.redirect_timeout; RESET statement_timeout');
		$seen{"then $_"}++ foreach grep { $_ ne 'new' } described($client, $read);
		$client->disconnect;
	}
	my $all = join ', ', map { "$_: $seen{$_}" } sort keys %seen;

	note($all);
	is(scalar(grep { !/^(new|new, then 08006|TC001|57014)$/ } keys %seen), 0,
		'the right row, the next step, or a timeout; and then the right row')
	  or diag($all);
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## The primary goes down
##

sub reconnect
{
	$at_primary = TcsWire->new($primary);
	return;
}

subtest 'primary down before, during and after' => sub {
	my $direct = redirect_session($standby, $token, server => 'tcs_primary');
	my $kept = redirect_session($standby, $token, server => 'tcs_primary');
	my $fresh = redirect_session($standby, $token, server => 'tcs_primary');

	$kept->ok_query($read);
	start_endless($at_primary, $direct);
	$primary->stop('fast');

	my ($state, $message) = outcome_of(($direct->results)[-1]);

	is($state, '08006', 'stopped during a statement: an error');
	like($message, qr/lost while the statement ran there/, '... that says so');
	is($direct->status, 'I', '... and the session lives');

	foreach ([ $direct, 'of that session' ], [ $kept, 'with a kept connection' ],
		[ $fresh, 'without one' ])
	{
		($state, $message) = state_and_message($_->[0], $read);
		is($state, 'TC001', "down before a statement $_->[1]: the next step");
		like($message, qr/could not be redirected to server "tcs_primary"/, '... with the reason');
	}
	is(described($kept, "SET tcs.fallback = 'redirect, eventual'; $read"),
		'old', '... which may be a weaker level');
	$kept->ok_query('RESET tcs.fallback');
	is(described($at_standby, 'SELECT connections FROM tcs.stat_redirects'), '0', 'nothing is left');

	$primary->start;
	reconnect();
	check_session_goes_on('up again', $_) foreach ($direct, $kept, $fresh);

	$primary->restart;
	reconnect();
	check_session_goes_on('restarted between statements', $kept);

	start_endless($at_primary, $direct);
	$kept->ok_query('BEGIN; DECLARE c CURSOR FOR ' . $large . '; FETCH 10 FROM c');
	$primary->stop('immediate');
	is((($direct->results)[-1])->{state}, '08006', 'crashed during a statement: an error');
	is((state_and_message($kept, 'FETCH ALL FROM c'))[0], '08006', 'crashed between rows: an error');
	$kept->ok_query('ROLLBACK');
	$primary->start;
	reconnect();
	check_session_goes_on('up again', $_) foreach ($direct, $kept);
	$_->disconnect foreach ($direct, $kept, $fresh);
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

subtest 'a remote backend is terminated' => sub {
	my $client = redirect_session($standby, $token, server => 'tcs_primary');
	my $terminate =
	  q{SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE application_name = 'tcs'};

	$client->ok_query($read);
	foreach (1 .. 3)
	{
		is($at_primary->ok_query($terminate), '1', 'terminated between statements');
		is(described($client, $read), 'new', '... the next one does not notice');
	}

	$client->ok_query('BEGIN');
	is(described($client, $read), 'new', 'in a transaction');
	$at_primary->ok_query($terminate);
	is(described($client, $read), 'new', '... of READ COMMITTED: not noticed');
	$client->ok_query('COMMIT');

	$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(described($client, $read), 'new', 'in a transaction');
	$at_primary->ok_query($terminate);
	is((state_and_message($client, $read))[0], '08006', '... of REPEATABLE READ: an error');
	$client->ok_query('ROLLBACK');
	check_session_goes_on('after that', $client);

	$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(described($client, $read), 'new', 'in a transaction');
	$at_primary->ok_query($terminate);
	is(($client->query('COMMIT'))[0]{state}, '00000', '... that only has to end: no error');
	check_session_goes_on('after that', $client);

	start_endless($at_primary, $client);
	$at_primary->ok_query($terminate);
	is((($client->results)[-1])->{state}, '08006', 'while a statement runs: an error of the connection');
	is($client->status, 'I', '... and the session lives');
	check_session_goes_on('after that', $client);

	# only the statement
	start_endless($at_primary, $client);
	$at_primary->ok_query($terminate =~ s/pg_terminate_backend\(pid, 10000\)/pg_cancel_backend(pid)/r);
	is((($client->results)[-1])->{state}, '57014', 'a statement cancelled on the primary is one here');
	check_session_goes_on('after that', $client);
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## Failover in the middle of a fetch
##

subtest 'failover' => sub {
	my $client = redirect_session($standby, $token, server => 'any_node');
	my $kept = redirect_session($standby, $token, server => 'any_node');
	my $strong = redirect_session($standby, $token, server => 'any_node');

	is(described($kept, $read), 'new', 'several hosts: the primary is found');
	$client->ok_query("BEGIN; DECLARE c CURSOR FOR $large");
	is(count_right(($client->query('FETCH 10 FROM c'))[0]{rows}, 1), 10, 'some rows');
	wait_for_replay($primary, $heir);
	$primary->stop('immediate');
	is((state_and_message($kept, $read))[0], 'TC001', 'no primary at all: the next step');
	$heir->promote;
	$heir->safe_psql('postgres', q{UPDATE t SET v = 'newest' WHERE id = 2});

	is((state_and_message($client, 'FETCH ALL FROM c'))[0], '08006', 'the rest of the rows is lost');
	$client->ok_query('ROLLBACK');
	foreach ($client, $kept)
	{
		is(described($_, 'SELECT v FROM t WHERE id <= 2 ORDER BY id'),
			"new\nnewest", 'the next statement finds the new primary');
	}
	is(described($strong, q{SET tcs.session_token = ''; SET tcs.read_level = 'strong'; SELECT v FROM t WHERE id = 2}),
		'newest', '... at level strong, too');
	ok(wait_for_connections($at_standby, 3), 'one connection each');

	# the former primary is there again, and does not know
	my $new_token = write_token($heir, q{UPDATE t SET v = 'newer' WHERE id = 3});

	$primary->start;
	my $misled = redirect_session($standby, $token, server => 'tcs_primary');

	$misled->ok_query("SET tcs.session_token = '$new_token'");
	my ($state, $message) = state_and_message($misled, 'SELECT v FROM t WHERE id = 3');

	like($state, qr/^TC00[134]$/, 'the former primary: never its rows')
	  or diag($message);
	like($message, qr/not redirected/, '... and it says why');
	$misled->disconnect;
	$_->disconnect foreach ($client, $kept, $strong);
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

done_testing();
