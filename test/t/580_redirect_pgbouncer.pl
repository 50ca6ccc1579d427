# test/t/580_redirect_pgbouncer.pl
#
# PgBouncer in transaction pooling as the redirect server.  Sessions of the
# standby share one or two server connections, each with its own settings, role
# and prepared statements of the same names, and none may ever see a row of
# another.  With and without max_prepared_statements (1.21 or later), with a
# pooler that has no room, is restarted, or begins to lead to another server.
#
# Replay stands still: rows that are "new" come from the primary.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use List::Util 'shuffle';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsPgbouncer;
use TcsRedirect;
use TcsResults;
use TcsTest;
use TcsWire;

my $version = need_pgbouncer();

my $keeps_statements = has_pgbouncer(21);
my $user = getpwuid($<);

# The same order of events each time.
srand(55);

my $sessions = 6;
my $rounds = 15;


##
## PgBouncer
##

my ($dir, $port, $run, $round);

END
{
	local $?;
	$run->kill_kill if $run;
}

# Writes its configuration: where it leads to, and lines of the test.
sub configure_bouncer
{
	my ($node, @lines) = @_;
	my ($host, $server_port) = ($node->host, $node->port);

	unlink("$dir/pgbouncer.ini");
	append_to_file(
		"$dir/pgbouncer.ini", qq{[databases]
postgres = host=$host port=$server_port
forced = host=$host port=$server_port dbname=postgres user=strong
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/userlist.txt
pool_mode = transaction
} . join('', map { "$_\n" } @lines));
	return;
}

sub start_pooler
{
	my (@config) = @_;

	configure_bouncer(@config);
	$round++;
	$run = run_pgbouncer($dir, $port, "pgbouncer_$round");
	return;
}

sub stop_pooler
{
	$run->kill_kill(grace => 10);
	$run = undef;
	unlink("$dir/.s.PGSQL.$port");
	return;
}


##
## Nodes
##

my ($primary, $standby) = new_pair(
	conf => qq{
tcs.max_wait = 0
tcs.redirect_after = 0
tcs.redirect_timeout = '60s'
});

$dir = PostgreSQL::Test::Utils::tempdir_short();
$port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/userlist.txt", qq{"$user" ""\n"strong" ""\n});

redirect_to($primary, options => "host '$dir', port '$port'");
$primary->safe_psql('postgres', qq{
	CREATE ROLE strong LOGIN;
	CREATE SERVER forced FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '$dir', port '$port', dbname 'forced');
	CREATE USER MAPPING FOR CURRENT_USER SERVER forced;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	GRANT SELECT ON t TO PUBLIC;
	INSERT INTO t VALUES (1, 'old');
	-- the same names for each session, and another meaning
	CREATE FUNCTION mine() RETURNS text LANGUAGE plpgsql STABLE
		AS \$\$ BEGIN RETURN (SELECT m.v FROM m); END \$\$;
} . join('', map { qq{
	CREATE ROLE r$_; CREATE SCHEMA s$_; GRANT ALL ON SCHEMA s$_ TO PUBLIC;
	CREATE TABLE s$_.m (v text); GRANT SELECT ON s$_.m TO PUBLIC; INSERT INTO s$_.m VALUES ('old');
} } 1 .. $sessions));
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token($primary,
	q{UPDATE t SET v = 'new';} . join('', map { "UPDATE s$_.m SET v = 'new $_';" } 1 .. $sessions));
my $read = 'SELECT v FROM t WHERE id = 1';
my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $at_primary = TcsWire->new($primary);

sub session_by_pooler
{
	my ($sql) = @_;
	my $client = TcsWire->new($standby);

	$client->ok_query("SET tcs.session_token = '$token';" . ($sql // ''));
	return $client;
}


##
## Sessions that share server connections
##

# Sessions that differ in everything, each with what it must see.
sub different_sessions
{
	my @all;

	foreach my $i (1 .. $sessions)
	{
		my $client = session_by_pooler(
			"SET search_path = s$i, public; SET my.key = 'key $i'; SET TimeZone = '$i'; SET ROLE r$i;"
			  . 'PREPARE q AS SELECT v, $1::int FROM m');

		# of the protocol, too
		$client->parse('w', 'SELECT v, $1::int * 2 FROM m')->sync->results;
		push @all, { client => $client, i => $i };
	}
	return @all;
}

# Each sends one of these, and knows what it must get.
my @ways = (
	sub {
		my ($client, $i) = @_;
		$client->simple('SELECT v FROM m');
		return "new $i";
	},
	sub {
		my ($client, $i) = @_;
		$client->simple('SELECT mine(), current_setting(\'my.key\'), current_setting(\'TimeZone\'), current_user FROM m');
		return "new $i|key $i|$i|r$i" =~ s/\|$i\|/|<+0$i>-0$i|/r;
	},
	sub {
		my ($client, $i) = @_;
		$client->simple("EXECUTE q($i)");
		return "new $i|$i";
	},
	sub {
		my ($client, $i) = @_;
		$client->bind('', 'w', $i)->execute('')->sync;
		return "new $i|" . 2 * $i;
	},
	sub {
		my ($client, $i) = @_;
		$client->simple("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM m; SAVEPOINT s;"
			  . " EXECUTE q($i); COMMIT; SELECT mine() FROM m");
		return "new $i";
	},
	sub {
		my ($client, $i) = @_;
		$client->simple("SELECT 1 / (length(v) - length(v)), '$i' FROM m");
		return '22012: division by zero';
	},
	sub {
		my ($client, $i) = @_;
		$client->simple("BEGIN; DECLARE c CURSOR FOR SELECT v || ' ' || g FROM m, generate_series(1, 2000) g;"
			  . ' FETCH 3 FROM c; SELECT mine() FROM m; FETCH ABSOLUTE 2000 FROM c; SELECT mine() FROM m; ROLLBACK; SELECT v FROM m');
		return "new $i";
	});

sub play_sessions
{
	my ($what) = @_;
	my @all = different_sessions();
	my @wrong;

	# one after the other, in any order
	foreach (1 .. $rounds)
	{
		foreach my $s (shuffle @all)
		{
			my $expected = $ways[ rand @ways ]->($s->{client}, $s->{i});
			my $got = TcsWire::describe_result(($s->{client}->results)[-1]);

			push @wrong, "\"$got\" in place of \"$expected\"" if $got ne $expected;
		}
	}
	is(scalar(@wrong), 0, "$what: each session sees its own rows") or diag(join "\n", @wrong);

	# all at once
	@wrong = ();
	foreach (1 .. $rounds)
	{
		foreach my $s (shuffle @all)
		{
			$s->{expected} = $ways[ rand @ways ]->($s->{client}, $s->{i});
			$s->{client}->flush;
		}
		foreach my $s (@all)
		{
			my $got = TcsWire::describe_result(($s->{client}->results)[-1]);

			push @wrong, "\"$got\" in place of \"$s->{expected}\"" if $got ne $s->{expected};
		}
	}
	is(scalar(@wrong), 0, '... also all at once') or diag(join "\n", @wrong);
	# the end of one that has failed, or was given up, may still be on its way
	ok($primary->poll_query_until('postgres',
			q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'tcs' AND state LIKE '%in transaction%'}),
		'... and no transaction is left open');
	$_->{client}->disconnect foreach @all;
	ok(wait_for_connections($at_standby, 0), '... nor a connection of the standby');
	return;
}

foreach my $size (1, 2)
{
	start_pooler($primary, "default_pool_size = $size");
	subtest "$size server connection(s)" => sub { play_sessions("pool of $size"); };
	stop_pooler();
}

SKIP:
{
	skip "PgBouncer $version does not keep prepared statements, 1.21 or later does", 2
	  if !$keeps_statements;

	foreach my $most (0, 100)
	{
		start_pooler($primary, 'default_pool_size = 2', "max_prepared_statements = $most");
		subtest "max_prepared_statements = $most" => sub { play_sessions("max_prepared_statements = $most"); };
		stop_pooler();
	}
}


##
## What can go wrong with a pooler
##

subtest 'no room' => sub {
	start_pooler($primary, 'default_pool_size = 1');

	my ($x, $y) = map { session_by_pooler() } 1 .. 2;

	is(described($_, $read), 'new', 'two sessions, one server connection') foreach ($x, $y);
	$x->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is(described($x, $read), 'new', 'one holds it');
	$y->ok_query(q{SET tcs.redirect_timeout = '300ms'});
	like(described($y, $read), qr/^TC001: .*within tcs\.redirect_timeout/, 'the other: the next step');
	is(described($y, "SET tcs.fallback = 'redirect, eventual'; $read"), 'old', '... which may be a weaker level');
	is(described($x, $read), 'new', 'the first goes on');
	$x->ok_query('COMMIT');
	$y->ok_query(q{SET tcs.redirect_timeout = '60s'});
	is(described($y, $read), 'new', 'and then the other');
	$_->disconnect foreach ($x, $y);
	stop_pooler();

	start_pooler($primary, 'max_client_conn = 1');
	($x, $y) = map { session_by_pooler() } 1 .. 2;
	is(described($x, $read), 'new', 'one client of the pooler');
	like(described($y, $read), qr/^TC001: .*no more connections allowed/, '... and no more: the next step, with the reason');
	$_->disconnect foreach ($x, $y);
	stop_pooler();
};

subtest 'the session gives up' => sub {
	start_pooler($primary, 'default_pool_size = 1');

	my ($x, $y) = map { session_by_pooler() } 1 .. 2;

	$y->ok_query($read);
	foreach my $how ('pg_cancel_backend', 'pg_terminate_backend')
	{
		$x->simple('SELECT v, pg_sleep(600) FROM t WHERE id = 1')->flush;
		$at_primary->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%'}
			  . q{ AND state = 'active' AND pid <> pg_backend_pid()});
		$at_standby->ok_query("SELECT $how(" . $x->pid . ')');
		like(($x->results)[0]{state}, qr/^57(014|P01)$/, $how);
		ok($at_primary->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%'}
			  . q{ AND state = 'active' AND pid <> pg_backend_pid()}), '... the query on the primary ends');
		is(described($y, $read), 'new', '... and its server connection is free');
	}
	$y->disconnect;
	stop_pooler();
};

subtest 'restarted' => sub {
	start_pooler($primary, 'default_pool_size = 1');
	my $client = session_by_pooler('PREPARE q AS ' . $read);

	is(described($client, 'EXECUTE q'), 'new', 'before');
	stop_pooler();
	like(described($client, 'EXECUTE q'), qr/^TC001: /, 'no pooler: the next step');
	start_pooler($primary, 'default_pool_size = 1');
	is(described($client, 'EXECUTE q'), 'new', 'it is there again');
	stop_pooler();
	start_pooler($primary, 'default_pool_size = 1');
	is(described($client, 'EXECUTE q'), 'new', 'restarted between statements: nothing is noticed');

	# the server connection, which the pooler makes anew
	foreach (1 .. 3)
	{
		$at_primary->ok_query(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'tcs'});
		is(described($client, 'EXECUTE q'), 'new', 'its server connection is closed: the same');
	}

	# others use the server connection as they like
	my $wild = IPC::Run::run([ $primary->installed_command('psql'), '-XAtq', '-h', $dir, '-p', $port, '-d', 'postgres',
			'-c', 'DISCARD ALL', '-c', 'SET search_path = nowhere', '-c', 'SET default_transaction_read_only = on',
			'-c', q{SET DateStyle = 'SQL, DMY'} ]);
	is(described($client, "EXECUTE q"), 'new', 'after DISCARD ALL and SET of another client');
	is(described($client, q{SELECT current_setting('search_path'), '2001-02-03'::date + length(v) FROM t}),
		'"$user", public|2001-02-06', '... whose settings are not those of the session');
	$client->disconnect;
	stop_pooler();
};

subtest 'it leads to another server' => sub {
	start_pooler($primary, 'default_pool_size = 1');
	my $client = session_by_pooler();

	is(described($client, $read), 'new', 'the primary');
	configure_bouncer($standby, 'default_pool_size = 1');
	$run->signal('HUP');
	my $answer;

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$answer = described($client, $read);
		last if $answer ne 'new';
		select(undef, undef, undef, 0.1);
	}
	like($answer, qr/^TC001: /, 'now the standby: never its rows, but the next step');
	configure_bouncer($primary, 'default_pool_size = 1');
	$run->signal('HUP');
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$answer = described($client, $read);
		last if $answer eq 'new' || $answer !~ /^TC001/;
		select(undef, undef, undef, 0.1);
	}
	is($answer, 'new', 'and the primary again');

	$client->ok_query(q{SET tcs.redirect_server = 'forced'});
	like(described($client, $read), qr/^TC001: .*leads to user "strong" in place of "$user"/,
		'a pooler that logs in as another user: refused');
	$client->disconnect;
	stop_pooler();
};

done_testing();
