# test/t/565_redirect_servers.pl
#
# Redirect servers that are not the primary of this cluster and database, servers
# and mappings that are changed while they are in use, a primary without room, and
# the number of connections that a standby may have. What must not be redirected
# goes on with the next step of tcs.fallback and says why.
#
# Replay stands still wherever nothing is said: rows that are "new" come from the
# primary, "old" ones from the standby.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsRedirect;
use TcsResults;
use TcsServers;
use TcsWire;

server_nodes();


##
## Servers that are not the right ones
##

subtest 'wrong servers' => sub {
	my $none = redirect_session($standby, $token, server => '');

	like(described($none, $read), qr/^TC001: /, 'no server at all: not redirected');
	unlike(described($none, $read), qr/redirected/, '... and nothing is said of it');
	is(described($none, 'SELECT server_name IS NULL FROM tcs.stat_redirects'), 't', '... as in tcs.stat_redirects');
	$none->ok_query(q{SET tcs.redirect_server = 'missing'});
	like(described($none, $read), qr/^TC001: /, 'a server that does not exist: not redirected');
	is(described($none, "SET tcs.fallback = 'redirect, eventual'; $read"), 'old', '... but the next step');
	is(described($none, "RESET tcs.fallback; SET tcs.redirect_server = 'tcs_primary'; $read"),
		'new', '... until it is set right');
	$none->ok_query(q{SET tcs.redirect_server = 'TCS_PRIMARY'});
	like(described($none, $read), qr/^TC001: /, 'names have an upper and a lower case');
	$none->disconnect;

	check_refused('a server of another wrapper', 'not one of the foreign-data wrapper tcs_fdw', server => 'of_nothing');
	check_refused('nobody listens', 'connection to server .* failed', server => 'to_nobody');
	check_refused('a standby', 'connection to server .* failed.*(hot standby|read-only|not.*primary)', server => 'to_standby');
	check_refused('a standby, by force', 'not a primary, but a standby', server => 'to_any_standby');
	check_refused('this node itself', 'connection to server .* failed.*(hot standby|read-only|not.*primary)', server => 'to_itself');
	check_refused('this node itself, by force', 'not a primary, but a standby', server => 'to_itself_any');
	check_refused('another cluster', 'of another database cluster', server => 'to_other');
	check_refused('another database', 'leads to database "elsewhere" in place of "postgres"', server => 'to_elsewhere');
	check_refused('a database without the extension', 'database "plain" there has no extension tcs, or one that an older build has installed \(see option dbname', server => 'to_plain');
	check_refused('a database that does not exist', 'database "nowhere" does not exist', server => 'to_nowhere');

	my $odd = redirect_session($standby, $token, server => 'with_options');

	is(described($odd, $read), 'new', 'options of the server do not change what a statement means');
	is(described($odd, 'SELECT current_setting(\'search_path\') FROM t'), '"$user", public', '... nor what it sees');
	$odd->disconnect;

	# one after the other in the same session
	my $client = redirect_session($standby, $token);

	foreach (1 .. 2)
	{
		foreach ([ 'tcs_primary', qr/^new$/ ], [ 'to_other', qr/^TC001: .*another database cluster/ ],
			[ 'moving', qr/^new$/ ], [ 'to_any_standby', qr/^TC001: .*but a standby/ ])
		{
			my ($server, $expected) = @$_;

			$client->ok_query("SET tcs.redirect_server = '$server'");
			like(described($client, $read), $expected, "now $server");
		}
	}
	$client->disconnect;

	my $plain = TcsWire->new($standby, dbname => 'plain');

	$plain->ok_query("SET tcs.session_token = '$token'");
	like(described($plain, 'SELECT count(*) FROM pg_class'), qr/^(\d+$|TC001: )/,
		'a database without the extension: not redirected');
	$plain->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## Changed while they are in use
##

subtest 'changed while in use' => sub {
	my $client = redirect_session($standby, $token, server => 'moving');

	is(described($client, $read), 'new', 'before');

	part(q{ALTER SERVER moving OPTIONS (ADD application_name 'moved')});
	$client->ok_query("SET tcs.session_token = '$token'");
	is(described($client, $read), 'new', 'ALTER SERVER');
	is( $primary->safe_psql('postgres',
			q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'moved'}),
		'1', '... takes effect with the next statement');

	part(q{ALTER SERVER moving OPTIONS (SET port '1')});
	$client->ok_query("SET tcs.session_token = '$token'");
	like(described($client, $read), qr/^TC001: .*connection to server/, '... also if it is wrong');
	part(sprintf q{ALTER SERVER moving OPTIONS (SET port '%s')}, $primary->port);
	$client->ok_query("SET tcs.session_token = '$token'");
	is(described($client, $read), 'new', '... until it is right again');

	# with rows still to come
	my @steps = (
		[ 'ALTER USER MAPPING', q{ALTER USER MAPPING FOR CURRENT_USER SERVER moving OPTIONS (ADD user 'nobody_at_all')},
			qr/role "nobody_at_all" does not exist/ ],
		[ 'DROP USER MAPPING', 'DROP USER MAPPING FOR CURRENT_USER SERVER moving', qr/has no user mapping/ ],
		[ 'CREATE USER MAPPING', 'CREATE USER MAPPING FOR CURRENT_USER SERVER moving', undef ],
		[ 'DROP SERVER', 'DROP SERVER moving CASCADE', qr/^TC001: / ],
		[ 'CREATE SERVER', create_server('moving', options_of($primary)), undef ]);

	foreach (@steps)
	{
		my ($what, $sql, $error) = @$_;
		my $reader = redirect_session($standby, $token, server => 'moving');
		my $half_read = described($reader, "BEGIN; DECLARE c CURSOR FOR $large; FETCH 4 FROM c") !~ /^TC001/;

		part($sql);
		if ($half_read)
		{
			is(scalar(@{ ($reader->query('FETCH ALL FROM c'))[-1]{rows} }),
				20000 - 4, "$what: who is half done gets the rest");
		}
		$reader->query('ROLLBACK');
		foreach ($client, $reader)
		{
			$_->ok_query("SET tcs.session_token = '$token'");
			my $answer = described($_, $read);

			$error ? like($answer, qr/^TC001: /, "$what: the next step")
			  : is($answer, 'new', "$what: redirected again");
			like($answer, $error, '... with the reason') if $error;
		}
		$reader->disconnect;
	}
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## A primary without room
##

subtest 'a primary without room' => sub {
	my $client = redirect_session($standby, $token);
	my @hogs;

	while (@hogs <= $room)
	{
		my $hog = eval { TcsWire->new($primary) } or last;

		push @hogs, $hog;
	}
	cmp_ok(scalar(@hogs), '<=', $room, 'all connections of the primary are taken');
	like(described($client, $read), qr/^TC001: .*too many clients/, 'max_connections: the next step, with the reason');
	is(described($client, "SET tcs.fallback = 'redirect, eventual'; $read; RESET tcs.fallback"),
		'', '... which may be a weaker level');
	(pop @hogs)->disconnect;

	# the hog's process may take a moment to end
	my $answer;

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$answer = described($client, $read);
		last if $answer !~ /too many clients/;
		select(undef, undef, undef, 0.1);
	}
	is($answer, 'new', 'one is free: redirected');
	$_->disconnect foreach @hogs;

	$primary->safe_psql('postgres', 'ALTER ROLE full CONNECTION LIMIT 0');
	my $full = redirect_session($standby, $token, user => 'full');

	like(described($full, $read), qr/^TC001: .*too many connections for role "full"/,
		'the limit of a role: the next step, with the reason');
	$primary->safe_psql('postgres', 'ALTER ROLE full CONNECTION LIMIT -1');
	is(described($full, $read), 'new', 'the limit is lifted: redirected');
	$full->disconnect;
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## The budget
##

subtest 'the budget' => sub {
	my $over = qr/^TC001: .*tcs\.max_redirect_connections allows are in use/;
	my ($x, $y, $z) = map { redirect_session($standby, $token) } 1 .. 3;

	configure_standby('tcs.max_redirect_connections', 1);
	is(redirects('max_connections, connections'), '1|0', 'one connection, and none is used');
	foreach (1 .. 5)
	{
		is(described($_, $read), 'new', 'one that is idle is given up for who needs it') foreach ($x, $y, $z);
		is(redirects('connections'), '1', '... and there is only one');
	}

	# its owner may be slow to hear that it is wanted
	is(described($x, $read), 'new', 'one has it');
	kill('STOP', $x->pid);
	$y->simple($read)->flush;
	foreach (1 .. 100)
	{
		last if $y->answered
		  || $at_standby->ok_query('SELECT wait_event_type = \'Extension\' FROM pg_stat_activity WHERE pid = ' . $y->pid) eq 't';
	}
	kill('CONT', $x->pid);
	is(answer_of($y->results), 'new', '... and is slow to give it up: the other waits');

	my $before = redirects('over_budget');

	$x->ok_query("BEGIN; $read");
	is(described($x, $read), 'new', 'in a transaction');
	like(described($y, $read), $over, '... it is not given up: the next step');
	is(described($y, "SET tcs.fallback = 'redirect, eventual'; $read"), 'old', '... which may be a weaker level');
	$y->ok_query('RESET tcs.fallback');
	is(redirects('over_budget'), $before + 2, '... and is counted');
	is(described($x, $read), 'new', '... its owner still has it');
	$x->ok_query('COMMIT');
	is(described($y, $read), 'new', '... until the transaction ends');

	$x->simple($endless)->flush;
	$primary->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND application_name = 'tcs'});
	like(described($y, $read), $over, 'one that is busy is not given up');
	$at_standby->ok_query('SELECT pg_cancel_backend(' . $x->pid . ')');
	like(answer_of($x->results), qr/^57014/, '... cancelled');
	is(described($y, $read), 'new', '... then it is free');

	# a transaction that has failed does not need it, but may have it
	$y->query("BEGIN; $read; SELECT 1 / 0");
	like(described($x, $read), qr/^(new$|TC001: )/, 'a transaction that has failed');
	$y->ok_query('ROLLBACK');
	is(described($x, $read), 'new', '... and that was asked for it: gives it up when it has ended');
	$_->disconnect foreach ($x, $y, $z);
	ok(wait_for_connections($at_standby, 0), 'nothing is left');

	($x, $y, $z) = map { redirect_session($standby, $token) } 1 .. 3;
	configure_standby('tcs.max_redirect_connections', 2);
	is(described($x, $read), 'new', 'two connections: one');
	my $of_x = remote_pids(1);
	is(described($y, $read), 'new', '... and the other');
	my ($of_y) = grep { $_ ne $of_x } split /,/, remote_pids(2);

	is(described($z, $read), 'new', '... a third session gets one');
	$primary->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $of_x");
	like(remote_pids(2), qr/\b$of_y\b/, '... that which was idle for longest');
	is(redirects('connections'), '2', '... and there are two');

	my %seen;

	foreach (1 .. 30)
	{
		$_->simple($read)->flush foreach ($x, $y, $z);
		$seen{ answer_of($_->results) =~ $over ? 'over' : $_->status }++ foreach ($x, $y, $z);
		$seen{'too many'}++ if redirects('connections') > 2;
	}
	note(join ', ', map { "$_: $seen{$_}" } sort keys %seen);
	is($seen{'too many'}, undef, 'all at once: never more than two');
	$_->ok_query('SET tcs.max_wait = 0') foreach ($x, $y, $z);
	is(described($_, $read), 'new', '... and all have their turn') foreach ($x, $y, $z);

	# those that are there count, too
	configure_standby('tcs.max_redirect_connections', 0);
	foreach ($x, $y, $z, redirect_session($standby, $token))
	{
		like(described($_, $read), qr/^TC001: /, 'no connections: nothing is redirected');
		is(described($_, "SET tcs.fallback = 'redirect, eventual'; $read"), 'old', '... but the next step');
		$_->disconnect;
	}
	configure_standby('tcs.max_redirect_connections', 20);
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

subtest 'idle connections' => sub {
	my $client = redirect_session($standby, $token);

	$client->ok_query(q{SET tcs.redirect_idle_timeout = '200ms'});
	foreach (1 .. 2)
	{
		is(described($client, $read), 'new', 'redirected');
		ok(wait_for_connections($at_standby, 0), '... and the connection is closed when it has been idle');
		is($primary->poll_query_until('postgres',
			q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'tcs'}), 1, '... on the primary, too');
	}
	$client->ok_query("BEGIN; $read");
	is(described($client, $read), 'new', 'in a transaction');
	$client->ok_query('COMMIT');
	ok(wait_for_connections($at_standby, 0), '... it is closed after that');

	$client->ok_query(q{SET tcs.redirect_idle_timeout = '1h'});
	is(described($client, $read), 'new', 'a long timeout');
	$client->ok_query(q{SET tcs.redirect_idle_timeout = '200ms'});
	ok(wait_for_connections($at_standby, 0), '... that is made shorter');

	$client->ok_query(q{SET tcs.redirect_idle_timeout = 0});
	is(described($client, $read), 'new', 'no timeout');
	is(redirects('connections, idle_connections'), '1|1', '... and the connection is kept');
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

subtest 'passwords' => \&no_password_logged;

done_testing();
