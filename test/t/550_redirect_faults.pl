# test/t/550_redirect_faults.pl
#
# What can go wrong on the way to the primary and back while a read is
# redirected: a primary that is down before, during and after a statement, a
# link that stalls or is cut at any byte, a remote backend that is terminated, a
# failover while a cursor is half read.  And what clients do: read slowly or not
# at all, cancel, time out, roll back, close, leave, mix cursors with other
# statements.  Each time the statement ends with the right rows, with the next
# step of tcs.fallback, or with an error that says to retry; nothing is left
# running on the primary; the session goes on.  A large result passes through
# the standby in little memory.
#
# Replay stands still all the time: rows that are "new" come from the primary.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsProxy;
use TcsRedirect;
use TcsTest;
use TcsWire;


##
## Nodes
##

# A result that no buffer on the way holds.
my $many = 20000;
my $large = "SELECT id, g, v || repeat('x', 990) FROM t, generate_series(1, $many) g WHERE id = 1";

# Longer than any test runs; who runs it has to be ended.
my $endless = "SELECT v, pg_sleep(600) FROM t WHERE id = 1";
my $read = 'SELECT v FROM t WHERE id = 1';

my ($primary, $standby, $heir) = new_cluster(
	standbys => 2,
	conf => qq{
max_wal_senders = 20
tcs.max_wait = 0
tcs.redirect_after = 0
tcs.redirect_timeout = '60s'
});
my $proxy = TcsProxy->new($primary->host, $primary->port);

END
{
	local $?;
	$proxy->stop if $proxy && $proxy->{pid};
}

redirect_to($primary);
$primary->safe_psql(
	'postgres', sprintf(
		q{
	CREATE SERVER by_proxy FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '127.0.0.1', port '%s');
	CREATE SERVER any_node FOREIGN DATA WRAPPER tcs_fdw
		OPTIONS (host '%s,%s,%s', port '%s,%s,%s');
	CREATE SERVER proxy_first FOREIGN DATA WRAPPER tcs_fdw
		OPTIONS (host '127.0.0.1,%s', port '%s,%s');
	CREATE USER MAPPING FOR CURRENT_USER SERVER by_proxy;
	CREATE USER MAPPING FOR CURRENT_USER SERVER proxy_first;
	CREATE USER MAPPING FOR CURRENT_USER SERVER any_node;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT i, 'old' FROM generate_series(1, 1000) i;
}, $proxy->port,
		(map { $_->host } ($standby, $primary, $heir)),
		(map { $_->port } ($standby, $primary, $heir)),
		$primary->host, $proxy->port, $primary->port));
wait_for_replay($primary, $_) foreach ($standby, $heir);
pause_replay($standby);

my $token = write_token($primary, q{UPDATE t SET v = 'new'});

# Two connections that only look.
my $at_primary = TcsWire->new($primary);
my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

# A session on the standby whose reads have to be redirected.
sub session_by_proxy
{
	my (%opt) = @_;
	my $server = delete $opt{server} // 'by_proxy';
	my $client = TcsWire->new($standby, %opt);

	$client->ok_query("SET tcs.redirect_server = '$server'; SET tcs.session_token = '$token'");
	return $client;
}

# (SQLSTATE, message and detail) of the last result of some SQL.
sub state_and_message
{
	my ($client, $sql) = @_;
	my $last = ($client->query($sql))[-1];

	return outcome_of($last);
}

sub outcome_of
{
	my ($last) = @_;

	return ($last->{state}, join ': ', map { $last->{error}{$_} // '' } qw(M D));
}

# Until so many statements with this text run on the primary for the standby.
sub wait_for_remote
{
	my ($count, $pattern) = @_;

	return $at_primary->poll("SELECT count(*) = $count FROM pg_stat_activity"
		  . " WHERE state <> 'idle' AND pid <> pg_backend_pid()"
		  . " AND application_name = 'tcs' AND query LIKE '%$pattern%'");
}

# Starts a statement that does not end, and waits until it runs on the primary.
sub start_endless
{
	my ($client) = @_;

	# the primary may need a second to see that one before has lost its client
	wait_for_remote(0, 'pg_sleep') or die 'another statement has been left';
	$client->simple($endless)->flush;
	wait_for_remote(1, 'pg_sleep') or die 'the statement never came to the primary';
	return;
}

# Right rows of a large result: all there, in their order.
sub count_right
{
	my ($rows, $from) = @_;
	my $wrong = 0;

	foreach my $row (@$rows)
	{
		$wrong++ if $row->[1] != $from++ || $row->[2] ne 'new' . 'x' x 990;
	}
	return $wrong == 0 ? scalar(@$rows) : "$wrong wrong rows";
}

sub check_session_goes_on
{
	my ($what, $client) = @_;

	is(rows_of($client, $read), 'new', "$what: the session's next read is redirected");
	return;
}

# As ok_query, but an error is a result, too.
sub rows_of
{
	my ($client, $sql) = @_;

	return TcsWire::describe_result(($client->query($sql))[-1]);
}

is(rows_of(session_by_proxy(), $read), 'new', 'through the proxy: redirected');
wait_for_connections($at_standby, 0);


##
## The link stalls
##

subtest 'a link that stalls' => sub {
	my $client = session_by_proxy();

	$client->ok_query(q{SET tcs.redirect_timeout = '300ms'});
	$proxy->tell('stall');

	my ($state, $message) = state_and_message($client, $read);

	is($state, 'TC001', 'no new connection: tcs.redirect_timeout, then the next step');
	like($message, qr/no connection within tcs\.redirect_timeout \(300 ms\)/, '... and it says why');
	is(rows_of($client, "SET tcs.fallback = 'redirect, eventual'; $read"),
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
	my $patient = session_by_proxy();

	$patient->ok_query($read);
	$proxy->tell('stall_old');
	$patient->simple($read)->flush;
	$at_standby->poll('SELECT count(*) = 1 FROM pg_stat_activity'
		  . " WHERE state = 'active' AND pid = " . $patient->pid);
	$proxy->tell('cut');
	is(TcsWire::describe_result(($patient->results)[-1]),
		'new', 'a kept connection that is cut while it begins: a new one is made');

	# the first of two hosts is silent
	my $choosy = session_by_proxy(server => 'proxy_first');

	$choosy->ok_query(q{SET tcs.redirect_timeout = '2s'});
	$proxy->tell('stall');
	is(rows_of($choosy, $read), 'new', 'a host that is silent: the next one in the list');
	$proxy->tell('cut');
	$choosy->disconnect;

	# after it has begun, the client decides how long it waits
	$proxy->tell('pass');
	start_endless($client);
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
	my $client = session_by_proxy();

	$client->ok_query($read);
	$proxy->tell('cut');
	is(rows_of($client, $read), 'new', 'cut between statements: nothing is noticed');

	start_endless($client);
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
	is(rows_of($client, $read), 'new', 'REPEATABLE READ');
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
			my $client = session_by_proxy();

			$client->ok_query($read) if $kept;
			$proxy->tell('cut_after', $bytes);

			my $last = ($client->query($three))[-1];
			my $what = $last->{state} ne '00000' ? $last->{state}
			  : TcsWire::rows_text($last) eq $right ? 'right'
			  : 'wrong: ' . TcsWire::rows_text($last);

			$proxy->tell('pass');
			$seen{$kept}{$what}++;
			$seen{$kept}{"then $_"}++
			  foreach grep { $_ ne $right } rows_of($client, $three);
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
		$client = session_by_proxy();
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
		$seen{"then $_"}++ foreach grep { $_ ne 'new' } rows_of($client, $read);
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
	my $direct = session_by_proxy(server => 'tcs_primary');
	my $kept = session_by_proxy(server => 'tcs_primary');
	my $fresh = session_by_proxy(server => 'tcs_primary');

	$kept->ok_query($read);
	start_endless($direct);
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
	is(rows_of($kept, "SET tcs.fallback = 'redirect, eventual'; $read"),
		'old', '... which may be a weaker level');
	$kept->ok_query('RESET tcs.fallback');
	is(rows_of($at_standby, 'SELECT connections FROM tcs.redirects()'), '0', 'nothing is left');

	$primary->start;
	reconnect();
	check_session_goes_on('up again', $_) foreach ($direct, $kept, $fresh);

	$primary->restart;
	reconnect();
	check_session_goes_on('restarted between statements', $kept);

	start_endless($direct);
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
	my $client = session_by_proxy(server => 'tcs_primary');
	my $terminate =
	  q{SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE application_name = 'tcs'};

	$client->ok_query($read);
	foreach (1 .. 3)
	{
		is($at_primary->ok_query($terminate), '1', 'terminated between statements');
		is(rows_of($client, $read), 'new', '... the next one does not notice');
	}

	$client->ok_query('BEGIN');
	is(rows_of($client, $read), 'new', 'in a transaction');
	$at_primary->ok_query($terminate);
	is(rows_of($client, $read), 'new', '... of READ COMMITTED: not noticed');
	$client->ok_query('COMMIT');

	$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(rows_of($client, $read), 'new', 'in a transaction');
	$at_primary->ok_query($terminate);
	is((state_and_message($client, $read))[0], '08006', '... of REPEATABLE READ: an error');
	$client->ok_query('ROLLBACK');
	check_session_goes_on('after that', $client);

	$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(rows_of($client, $read), 'new', 'in a transaction');
	$at_primary->ok_query($terminate);
	is(($client->query('COMMIT'))[0]{state}, '00000', '... that only has to end: no error');
	check_session_goes_on('after that', $client);

	start_endless($client);
	$at_primary->ok_query($terminate);
	is((($client->results)[-1])->{state}, '08006', 'while a statement runs: an error of the connection');
	is($client->status, 'I', '... and the session lives');
	check_session_goes_on('after that', $client);

	# only the statement
	start_endless($client);
	$at_primary->ok_query($terminate =~ s/pg_terminate_backend\(pid, 10000\)/pg_cancel_backend(pid)/r);
	is((($client->results)[-1])->{state}, '57014', 'a statement cancelled on the primary is one here');
	check_session_goes_on('after that', $client);
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## Cancel, timeouts, sessions that end
##

subtest 'the session gives up' => sub {
	my $client = session_by_proxy(server => 'tcs_primary');

	start_endless($client);
	$at_standby->ok_query('SELECT pg_cancel_backend(' . $client->pid . ')');
	is((($client->results)[-1])->{state}, '57014', 'cancelled');
	ok(wait_for_remote(0, 'pg_sleep'), '... and so is the query on the primary');
	check_session_goes_on('cancelled', $client);

	$client->ok_query(q{SET statement_timeout = '1s'});
	is((state_and_message($client, $endless))[0], '57014', 'statement_timeout');
	ok(wait_for_remote(0, 'pg_sleep'), '... and the query on the primary has ended');
	$client->ok_query('RESET statement_timeout');
	check_session_goes_on('timed out', $client);

	# also with a query that says something all the time
	$client->ok_query("BEGIN; DECLARE c CURSOR FOR $large; FETCH 1 FROM c");
	ok(wait_for_remote(1, 'generate_series'), 'rows are waiting');
	$client->ok_query('ROLLBACK');
	ok(wait_for_remote(0, 'generate_series'), '... and do not after ROLLBACK');
	check_session_goes_on('ROLLBACK', $client);

	foreach my $how ('pg_terminate_backend', 'disconnect', 'DISCONNECT')
	{
		my $leaver = session_by_proxy(server => 'tcs_primary');

		if ($how eq 'pg_terminate_backend')
		{
			start_endless($leaver);
			$at_standby->ok_query("SELECT $how(" . $leaver->pid . ')');
			is((($leaver->results)[0])->{state}, '57P01', 'terminated');
		}
		elsif ($how eq 'disconnect')
		{
			$leaver->ok_query("BEGIN; DECLARE c CURSOR FOR $large; FETCH 1 FROM c");
			ok(wait_for_remote(1, 'generate_series'), 'rows are waiting');
			$leaver->disconnect;
		}
		else
		{
			$leaver->ok_query(q{SET client_connection_check_interval = '100ms'});
			start_endless($leaver);
			close($leaver->{socket});
		}
		ok(wait_for_remote(0, $_), "$how: nothing runs on the primary")
		  foreach ('pg_sleep', 'generate_series');
		ok(wait_for_connections($at_standby, 1), '... nor is there a connection but of the other session');
	}

	check_session_goes_on('after all that', $client);
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## Slow clients
##

subtest 'a client that does not read' => sub {
	my $slow = session_by_proxy(server => 'tcs_primary');
	my $other = session_by_proxy(server => 'tcs_primary');

	$slow->simple($large)->flush;
	ok( $at_standby->poll(
			q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND pid = }
			  . $slow->pid),
		'the standby waits for its client');
	check_session_goes_on('meanwhile, another session', $other);
	ok(wait_for_remote(1, 'generate_series'), 'the primary waits, too');
	is(count_right(($slow->results)[-1]{rows}, 1), $many, 'all rows when the client reads');
	check_session_goes_on('after that', $slow);

	# one row at a time
	$slow->parse('', $large);
	$slow->bind('p', '');
	my $wrong = 0;

	foreach my $i (1 .. 300)
	{
		my ($result) = $slow->execute('p', 1)->ask->results(1);

		$wrong++ if !$result->{suspended} || count_right($result->{rows}, $i) ne '1';
	}
	is($wrong, 0, 'a portal that is read one row at a time');
	$slow->close_object('P', 'p')->sync;
	$slow->results;
	check_session_goes_on('closed half read', $slow);

	$slow->simple($large)->flush;
	$at_standby->poll(
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND pid = }
		  . $slow->pid);
	$at_standby->ok_query('SELECT pg_terminate_backend(' . $slow->pid . ')');
	ok(wait_for_remote(0, 'generate_series'), 'terminated while it writes: nothing runs on the primary');
	ok(wait_for_connections($at_standby, 1), '... and its connection is given back');
	$other->disconnect;
};


##
## Half read, and then something else
##

subtest 'half read' => sub {
	my $client = session_by_proxy(server => 'tcs_primary');
	my $pid = sub {
		$at_primary->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'tcs'});
		return rows_of($at_primary, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'tcs'});
	};

	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		my $begin = "BEGIN ISOLATION LEVEL $isolation; DECLARE c CURSOR FOR $large";
		my $four = sub {
			my ($name, $from) = @_;
			return count_right(($client->query("FETCH 4 FROM $name"))[0]{rows}, $from);
		};

		$client->ok_query($begin);
		is($four->('c', 1), 4, "$isolation: some rows");
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);

		$client->ok_query($begin);
		$four->('c', 1);
		$client->query('CLOSE c');
		is(rows_of($client, $read), 'new', 'CLOSE, then another statement');
		is(rows_of($client, $read), 'new', '... and one more');
		$client->ok_query('COMMIT');
		check_session_goes_on('COMMIT', $client);

		$client->ok_query($begin);
		is($four->('c', 1), 4, 'some rows');
		is(rows_of($client, $read), 'new', '... another statement');
		is($four->('c', 5), 4, '... more rows');
		is(rows_of($client, 'SELECT count(*) FROM t'), '1000', '... another statement');
		is($four->('c', 9), 4, '... more rows');
		is(count_right(($client->query('FETCH ALL FROM c'))[0]{rows}, 13),
			$many - 12, '... the rest');
		$client->ok_query('COMMIT');
		check_session_goes_on('COMMIT', $client);

		# three at the same time
		$client->ok_query($begin);
		$client->query("DECLARE d CURSOR FOR SELECT 0, id, v || repeat('x', 990) FROM t ORDER BY id;"
			  . "DECLARE e CURSOR FOR SELECT 0, g, v || repeat('x', 990) FROM t, generate_series(1, 3000) g WHERE id = 7");
		my $wrong = 0;

		foreach my $i (0 .. 20)
		{
			foreach my $name (qw(c d e))
			{
				$wrong++ if $four->($name, 4 * $i + 1) ne '4';
			}
		}
		is($wrong, 0, 'three cursors in turn');
		is(count_right(($client->query('FETCH ALL FROM d'))[0]{rows}, 85), 1000 - 84, 'the rest of one');
		is(count_right(($client->query('FETCH ALL FROM e'))[0]{rows}, 85), 3000 - 84, '... of another');
		$client->query('CLOSE c');
		is(rows_of($client, $read), 'new', '... and without the third');
		$client->ok_query('COMMIT');

		# an error of another statement ends all
		$client->ok_query($begin);
		$four->('c', 1);
		is((state_and_message($client, 'SELECT 1 / (id - 1) FROM t WHERE id = 1'))[0], '22012', 'an error');
		is((state_and_message($client, 'FETCH 1 FROM c'))[0], '25P02', '... ends the transaction');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);

		# but not if there is a savepoint
		$client->ok_query($begin);
		$four->('c', 1);
		$client->query('SAVEPOINT s');
		is((state_and_message($client, 'SELECT 1 / (id - 1) FROM t WHERE id = 1'))[0], '22012', 'an error');
		$client->query('ROLLBACK TO s');
		is(rows_of($client, $read), 'new', '... is undone with its savepoint');
		is($four->('c', 5), 4, '... and the cursor goes on');
		$client->query('SAVEPOINT s2');
		is((state_and_message($client, 'SELECT * FROM nowhere'))[0], '42P01', 'an error of this node');
		$client->query('ROLLBACK TO s2');
		is($four->('c', 9), 4, '... the same');
		$client->ok_query('COMMIT');
		check_session_goes_on('COMMIT', $client);

		# an error among the rows
		$client->ok_query("BEGIN ISOLATION LEVEL $isolation;"
			  . ' DECLARE c CURSOR FOR SELECT id, 1 / (id - 500), v FROM t ORDER BY id');
		is(scalar(@{ ($client->query('FETCH 100 FROM c'))[0]{rows} }), 100, 'some rows');
		is((state_and_message($client, 'FETCH ALL FROM c'))[0], '22012', '... and an error among them');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);
		ok(wait_for_connections($at_standby, 1), "$isolation: one connection");
	}

	# portals of one pipeline
	my ($p, $q, $one, $rest) =
	  $client->parse('', $large)->bind('p', '')->execute('p', 4)
	  ->extended($read)->parse('', 'SELECT count(*) FROM t')->bind('q', '')->execute('q')
	  ->execute('p')->sync->results;

	is(count_right($p->{rows}, 1), 4, 'a pipeline: some rows');
	is(TcsWire::describe_result($q), 'new', '... another statement');
	is(TcsWire::describe_result($one), '1000', '... and one more');
	is(count_right($rest->{rows}, 5), $many - 4, '... the rest');

	# one that outlives its transaction
	$client->ok_query("BEGIN; DECLARE c CURSOR WITH HOLD FOR $large; FETCH 4 FROM c; COMMIT");
	is(rows_of($client, $read), 'new', 'WITH HOLD: another statement');
	is(count_right(($client->query('FETCH ALL FROM c'))[0]{rows}, 5), $many - 4, '... and the rest');
	$client->query('CLOSE c');

	# an error alone, many times: the connection is kept
	my $before = $pid->();

	is((state_and_message($client, 'SELECT id, 1 / (id - 500) FROM t ORDER BY id'))[0],
		'22012', 'an error of the primary')
	  foreach 1 .. 3;
	is($pid->(), $before, '... does not cost the connection');
	check_session_goes_on('after that', $client);
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


# What is put away for another statement can fail on the way; then it must not
# look as if it was all.
subtest 'half put away' => sub {
	my $client = session_by_proxy();

	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		$client->ok_query("BEGIN ISOLATION LEVEL $isolation;"
			  . " DECLARE c CURSOR FOR $large; FETCH 4 FROM c; SAVEPOINT s");
		$proxy->tell('stall_after', 1000000);
		is((state_and_message($client, "SET LOCAL statement_timeout = '500ms'; $read"))[0],
			'57014', "$isolation: a timeout while rows are put away");
		$client->query('ROLLBACK TO s');
		$proxy->tell('pass');
		my $rest = ($client->query('FETCH ALL FROM c'))[-1];
		my $what = $rest->{state} eq '00000' ? count_right($rest->{rows}, 5) : $rest->{state};

		like($what, qr/^(08006|@{[ $many - 4 ]})$/, '... then all the rest, or an error');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);

		$client->ok_query("BEGIN ISOLATION LEVEL $isolation;"
			  . ' DECLARE c CURSOR FOR SELECT id, 1 / (id - 500), v FROM t ORDER BY id;'
			  . ' FETCH 4 FROM c; SAVEPOINT s');
		my $state = (state_and_message($client, $read))[0];

		like($state, qr/^(00000|22012)$/, "$isolation: an error among the rows that are put away");
		$client->query('ROLLBACK TO s');
		$rest = ($client->query('FETCH ALL FROM c'))[-1];
		isnt($rest->{state}, '00000', '... shows when the cursor comes to it')
		  or diag(scalar(@{ $rest->{rows} }) . ' rows and no error');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);
	}
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

# As drivers do who set a savepoint before each statement.
subtest 'given up within a savepoint' => sub {
	my $client = session_by_proxy(server => 'tcs_primary');

	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		foreach my $first ('', $read)
		{
			my $what = "$isolation, " . ($first ? 'second' : 'first') . ' statement';

			$client->ok_query("BEGIN ISOLATION LEVEL $isolation");
			$client->ok_query($first) if $first;
			$client->query('SAVEPOINT s');
			start_endless($client);
			$at_standby->ok_query('SELECT pg_cancel_backend(' . $client->pid . ')');
			is((($client->results)[-1])->{state}, '57014', "$what: cancelled");
			ok(wait_for_remote(0, 'pg_sleep'), '... and so is the query on the primary');
			$client->query('ROLLBACK TO s');

			# in REPEATABLE READ the snapshot may be lost
			my $after = rows_of($client, "SET statement_timeout = '5s'; $read");

			like($after, $isolation eq 'READ COMMITTED' ? qr/^new$/ : qr/^(new$|08006|40001)/,
				'... the transaction goes on, or must be repeated');
			$client->ok_query('ROLLBACK; RESET statement_timeout');
			check_session_goes_on('ROLLBACK', $client);
		}
	}
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## A large result
##

# Peak memory of the session's process, in kB.
sub peak
{
	my ($client) = @_;
	my $status = slurp_file('/proc/' . $client->pid . '/status');

	return $status =~ /^VmHWM:\s+(\d+) kB/m ? $1 : die 'no VmHWM';
}

SKIP:
{
	skip 'no /proc here', 1 if !-r "/proc/$$/status";

	subtest 'a large result' => sub {
		my $client = session_by_proxy(server => 'tcs_primary');

		# psql throws 300 MB away more quickly than this program could
		my $query =
		  q{SELECT v || repeat(g::text, 100) FROM t, generate_series(100000, 599999) g WHERE id = 1};
		my $got = '';
		my $before;

		$client->ok_query("$read; SELECT count(*) FROM t");
		$before = peak($client);
		$client->ok_query("BEGIN; DECLARE c CURSOR FOR $query");
		my $rows = 0;

		foreach (1 .. 20)
		{
			$rows += @{ ($client->query('FETCH 5000 FROM c'))[0]{rows} };
		}
		is($rows, 100000, 'a cursor: 60 MB');
		cmp_ok(peak($client) - $before, '<', 30000, '... in less than 30 MB');
		$client->ok_query('COMMIT');
		cmp_ok(peak($client) - $before, '<', 30000, '... also where the rest is not wanted');
		$client->ok_query("BEGIN; DECLARE c CURSOR FOR $query; FETCH 4 FROM c; CLOSE c");
		is(rows_of($client, $read), 'new', 'another statement in place of the rest');
		$client->ok_query('COMMIT');
		cmp_ok(peak($client) - $before, '<', 30000, '... in less than 30 MB');
		$client->disconnect;

		my $out = run_sql_output(
			"SELECT 'before ' || pg_read_file('/proc/self/status');\n"
			  . "SET tcs.read_level = 'session';\n"
			  . "$read;\n"
			  . "\\o /dev/null\n"
			  . "COPY ($query) TO STDOUT;\n"
			  . "\\o\n"
			  . "SET tcs.read_level = 'eventual';\n"
			  . "SELECT 'after ' || pg_read_file('/proc/self/status')");
		my ($first, $last) = $out =~ /^VmHWM:\s+(\d+) kB/mg;

		like($out, qr/^new$/m, 'COPY of 300 MB');
		cmp_ok($last - $first, '<', 30000, '... in less than 30 MB')
		  or diag("$first, $last");

		# few rows that are long
		my $wide = session_by_proxy(server => 'tcs_primary');

		$wide->ok_query($read);
		$before = peak($wide);
		$wide->simple("SELECT g, v || repeat('x', 1000000) FROM t, generate_series(1, 200) g WHERE id = 1");
		my $size = 0;

		$size += length $_->[1] foreach @{ ($wide->results)[-1]{rows} };
		is($size, 200 * 1000003, '200 rows of 1 MB');
		cmp_ok(peak($wide) - $before, '<', 30000, '... in less than 30 MB');
		$wide->disconnect;
	};
}

sub run_sql_output
{
	my ($sql) = @_;

	return read_at($standby, $sql,
		level => 'eventual',
		token => $token,
		set => { 'tcs.redirect_server' => 'tcs_primary' });
}


##
## Failover in the middle of a fetch
##

subtest 'failover' => sub {
	my $client = session_by_proxy(server => 'any_node');
	my $kept = session_by_proxy(server => 'any_node');
	my $strong = session_by_proxy(server => 'any_node');

	is(rows_of($kept, $read), 'new', 'several hosts: the primary is found');
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
		is(rows_of($_, 'SELECT v FROM t WHERE id <= 2 ORDER BY id'),
			"new\nnewest", 'the next statement finds the new primary');
	}
	is(rows_of($strong, q{SET tcs.session_token = ''; SET tcs.read_level = 'strong'; SELECT v FROM t WHERE id = 2}),
		'newest', '... at level strong, too');
	ok(wait_for_connections($at_standby, 3), 'one connection each');

	# the former primary is there again, and does not know
	my $new_token = write_token($heir, q{UPDATE t SET v = 'newer' WHERE id = 3});

	$primary->start;
	my $misled = session_by_proxy(server => 'tcs_primary');

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
