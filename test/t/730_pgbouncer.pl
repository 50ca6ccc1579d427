# test/t/730_pgbouncer.pl
#
# Tokens through PgBouncer in transaction pooling, with the configurations of
# examples/pgbouncer: eight clients share two server connections, and what
# counts is that none ever runs with another's token.  1.24 or later tracks the
# token for each client, so that it follows the client from one server
# connection to the other.  Any version is right with SET LOCAL, which is gone
# with its transaction.  The same rounds without either must show a leak, or
# they would prove nothing.

use strict;
use warnings;

use File::Spec;
use List::Util 'shuffle';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsPgbouncer;
use TcsResults;
use TcsTest;
use TcsWire;

my $clients = 8;
my $rounds = 20;
my $user = getpwuid($<);

my $version = need_pgbouncer();

my $tracks = has_pgbouncer(24);

# The same order of events each time.
srand(41);


##
## PgBouncer
##

# As much of a node as TcsWire asks for.
package Bouncer
{
	sub host { return $_[0]->{host}; }
	sub port { return $_[0]->{port}; }
	sub name { return $_[0]->{name}; }
}

my @running;

END
{
	# What a test that died has left; its exit code stays.
	local $?;
	$_->{run}->kill_kill foreach grep { $_->{run} } @running;
}

# PgBouncer with one of the example configurations, and more lines, in front of a
# node, with eight clients.
sub start_bouncer
{
	my ($ini, $node, $more) = @_;
	my $example =
	  File::Spec->rel2abs("$FindBin::RealBin/../../examples/pgbouncer/$ini");
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my ($host, $server_port) = ($node->host, $node->port);
	my $bouncer =
	  bless { host => $dir, port => $port, name => $node->name . "_$ini" },
	  'Bouncer';

	# [pgbouncer] is the last section, and a later line replaces an earlier
	# one; a second section of that name would start from the defaults.
	my $config = slurp_file($example);

	$config =~ s/^app = .*$/postgres = host=$host port=$server_port/m
	  or die "$ini: no database to replace";
	append_to_file("$dir/userlist.txt", "\"$user\" \"\"\n");
	append_to_file(
		"$dir/pgbouncer.ini", $config . qq{
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/userlist.txt
default_pool_size = 2
} . ($more // ''));
	$bouncer->{run} = run_pgbouncer($dir, $port, $bouncer->{name});
	push @running, $bouncer;
	$bouncer->{clients} = [ map { TcsWire->new($bouncer) } 1 .. $clients ];
	return $bouncer;
}

sub stop_bouncer
{
	my ($bouncer) = @_;

	# Newer versions wait for their clients to go.
	$_->disconnect foreach @{ delete $bouncer->{clients} };
	delete($bouncer->{run})->kill_kill(grace => 10);
}

# Rounds in which each client comes to both server connections.  Which one
# PgBouncer gives is its own affair, but not if there is only one: two clients
# hold both in transactions, and first the one, then the other lets go.
#
# $turn is called with (client, number) and does one thing with a client outside
# of a transaction; $look with the same does one thing that is legal inside of
# one, and returns the server's number and whether the token was right.  Returns
# what was seen: { wrong, changes, servers }.
sub play
{
	my ($bouncer, $turn, $look) = @_;
	my @all = @{ $bouncer->{clients} };
	my %seen = (wrong => 0, changes => 0, servers => {});
	my @last;

	my $check = sub {
		my ($i) = @_;
		my ($server, $right) = $look->($all[$i], $i);

		$seen{wrong}++ if !$right;
		$seen{changes}++ if defined $last[$i] && $last[$i] != $server;
		$seen{servers}{$server}{$i} = 1;
		$last[$i] = $server;
	};
	my $visit = sub {
		my ($i) = @_;

		$turn->($all[$i], $i);
		$check->($i);
	};

	foreach (1 .. $rounds)
	{
		my ($first, $second, @others) = shuffle(0 .. $#all);

		$visit->($_) foreach ($first, $second);
		$all[$_]->ok_query('BEGIN') foreach ($first, $second);
		$check->($_) foreach ($first, $second);

		$all[$first]->ok_query('COMMIT');
		$visit->($_) foreach @others;
		$all[$first]->ok_query('BEGIN');
		$check->($first);

		$all[$second]->ok_query('COMMIT');
		$visit->($_) foreach ($second, @others);
		$all[$first]->ok_query('COMMIT');
	}
	return \%seen;
}

# The test saw what it wants to see: both connections, by each of the clients.
sub check_play
{
	my ($seen) = @_;
	my @servers = values %{ $seen->{servers} };

	is(scalar(@servers), 2, 'there were two server connections');
	is(scalar(grep { keys %$_ == $clients } @servers),
		2, 'each client has been on both');
	cmp_ok($seen->{changes}, '>=', $rounds * ($clients - 2),
		'and has changed between them');
	note("$seen->{changes} changes");
}

# What the client was told last.
sub token_of
{
	my ($client) = @_;

	return $client->parameter('tcs.session_token');
}

# (server's number, token that it runs with), after some SQL in the same message
sub looks
{
	my ($client, $before) = @_;

	return split /\|/,
	  $client->ok_query(($before // '')
		. "SELECT pg_backend_pid(), current_setting('tcs.session_token')"),
	  -1;
}

# $look for clients whose own token is what PgBouncer told them last: the
# server must run with the same.
sub runs_with_own_token
{
	my ($client) = @_;
	my ($server, $token) = looks($client);

	return ($server, $token eq token_of($client));
}

# $look for clients that hand a token over with each transaction.
sub runs_with_given_token
{
	my ($client, $given) = @_;
	my ($server, $token) =
	  looks($client, "SET LOCAL tcs.session_token = '$given';");

	return ($server, $token eq $given);
}


##
## Nodes
##

# A read that cannot be served is refused at once, so that nobody has to wait
# to see whose token it had.
my ($primary, $standby) = new_pair(conf => "tcs.max_wait = 0\n");
my $direct = TcsWire->new($primary);
my $read = 'SELECT count(*) FROM t';

# Two tokens for each client, all of them different.
my @tokens;

$direct->ok_query('CREATE TABLE t (client int)');
foreach my $i (0 .. $clients - 1)
{
	foreach (1 .. 2)
	{
		$direct->ok_query("INSERT INTO t VALUES ($i)");
		push @{ $tokens[$i] }, token_of($direct);
	}
}
wait_for_replay($primary, $standby);

# Does the token name a commit since the position?
sub written_since
{
	my ($token, $position) = @_;

	return $direct->ok_query("SELECT written_lsn > '$position'"
		  . ' AND written_lsn <= pg_current_wal_insert_lsn()'
		  . " FROM tcs.token_info('$token')") eq 't';
}

# $turn: the client writes, or goes on with the token it has.  The first one
# never writes.
my $wrong_tokens;

sub write_something
{
	my ($client, $i) = @_;
	return if $i == 0 || rand > 0.5;

	my $before = $direct->ok_query('SELECT pg_current_wal_insert_lsn()');

	$client->ok_query("INSERT INTO t VALUES ($i)");
	$wrong_tokens++ if !written_since(token_of($client), $before);
}

# Rounds in which each client says SET once and again, and in between must still
# run with what it said last.
sub play_with_set
{
	my ($bouncer) = @_;
	my @given;

	return play(
		$bouncer,
		sub {
			my ($client, $i) = @_;

			return if defined $given[$i] && rand > 0.3;
			$given[$i] = $tokens[$i][ int rand 2 ];
			$client->ok_query("SET tcs.session_token = '$given[$i]'");
		},
		sub {
			my ($client, $i) = @_;
			my ($server, $token) = looks($client);

			return ($server, $token eq $given[$i]);
		});
}

# Reads of all clients, of which the first one has asked for what the standby
# does not have: one entry of @$outcomes for each.
sub check_outcomes
{
	my ($outcomes) = @_;

	is_deeply([ keys %{ $outcomes->[0] } ],
		['TC001'], 'its reads are refused, on both server connections');
	is_deeply([ map { keys %$_ } @$outcomes[ 1 .. $clients - 1 ] ],
		[ ('00000') x ($clients - 1) ], 'those of the others are served');
}


##
## The token follows the client (1.24 or later)
##

SKIP:
{
	skip "PgBouncer $version does not track tokens, 1.24 or later does", 2
	  if !$tracks;

	subtest 'primary, tracked' => sub {
		my $bouncer = start_bouncer('primary.ini', $primary);
		my @all = @{ $bouncer->{clients} };

		$wrong_tokens = 0;

		my $seen = play($bouncer, \&write_something, \&runs_with_own_token);

		check_play($seen);
		is($wrong_tokens, 0, 'each write brought the token of that write');
		is($seen->{wrong}, 0, 'no client ever ran with another token than its own');
		is(token_of($all[0]), '', 'who never wrote has no token');

		my %distinct = map { token_of($_) => 1 } @all;

		is(scalar(keys %distinct), $clients, 'and all others have different ones');

		# all at once, for the few connections that there are
		my $wrong = 0;

		foreach (1 .. $rounds)
		{
			$_->simple("SELECT current_setting('tcs.session_token')")->flush
			  foreach @all;
			foreach my $client (@all)
			{
				my ($result) = $client->results;

				$wrong++ if $result->{rows}[0][0] ne token_of($client);
			}
		}
		is($wrong, 0, 'nor when all ask at the same time');
		stop_bouncer($bouncer);
	};

	subtest 'standby, tracked' => sub {
		my $bouncer = start_bouncer('standby.ini', $standby);
		my @all = @{ $bouncer->{clients} };
		my @outcomes;

		my $seen = play_with_set($bouncer);

		check_play($seen);
		is($seen->{wrong}, 0, 'no client ever ran with another token than its own');

		# one client asks for what this standby does not have
		pause_replay($standby);
		$direct->ok_query('INSERT INTO t VALUES (0)');
		$all[0]->ok_query("SET tcs.session_token = '" . token_of($direct) . "'");
		$seen = play(
			$bouncer,
			sub {
				my ($client, $i) = @_;

				$outcomes[$i]{ state_after($client, $read) }++;
			},
			\&runs_with_own_token);
		check_play($seen);
		check_outcomes(\@outcomes);

		resume_replay($standby);
		wait_for_replay($primary, $standby);
		is($all[0]->ok_query($read),
			$direct->ok_query($read), 'and its own as soon as the standby has it');

		# a token that comes with the connection
		my $client = TcsWire->new($bouncer,
			options => "-ctcs.session_token=$tokens[0][0]");

		is((looks($client))[1], $tokens[0][0],
			'a token can come with the connection');
		$client->disconnect;
		is((looks($all[1]))[1],
			token_of($all[1]), 'and stays with that client, too');
		stop_bouncer($bouncer);
	};
}


##
## The token goes with the transaction (any version)
##

subtest 'primary, SET LOCAL' => sub {
	my $bouncer = start_bouncer('set_local.ini', $primary);

	$wrong_tokens = 0;

	my $seen = play(
		$bouncer,
		\&write_something,
		sub {
			my ($client, $i) = @_;

			return runs_with_given_token($client, $tokens[$i][0]);
		});

	check_play($seen);
	is($wrong_tokens, 0, 'each write brought the token of that write');
	is($seen->{wrong}, 0, 'each transaction ran with the token it was given');
	stop_bouncer($bouncer);
};

subtest 'standby, SET LOCAL' => sub {
	my $bouncer = start_bouncer('set_local.ini', $standby);
	my @all = @{ $bouncer->{clients} };
	my @outcomes;

	# Every second client hands a token over, the others have none.
	my $seen = play(
		$bouncer,
		sub { },
		sub {
			my ($client, $i) = @_;

			return runs_with_given_token($client, $tokens[$i][0]) if $i % 2;

			my ($server, $token) = looks($client);

			return ($server, $token eq '');
		});

	check_play($seen);
	is($seen->{wrong}, 0,
		'each transaction ran with the token it was given, or none');

	# one client asks for what this standby does not have
	pause_replay($standby);
	$direct->ok_query('INSERT INTO t VALUES (0)');

	my $ahead = token_of($direct);

	$seen = play(
		$bouncer,
		sub {
			my ($client, $i) = @_;
			my $token = $i == 0 ? $ahead : $tokens[$i][0];

			$outcomes[$i]
			  { state_after($client, "SET LOCAL tcs.session_token = '$token'; $read") }++;
		},
		sub {
			my ($client) = @_;
			my ($server, $token) = looks($client);

			return ($server, $token eq '');
		});
	check_play($seen);
	check_outcomes(\@outcomes);
	is($seen->{wrong}, 0, 'no token is left after its transaction');

	resume_replay($standby);
	wait_for_replay($primary, $standby);
	is( $all[0]->ok_query("SET LOCAL tcs.session_token = '$ahead'; $read"),
		$direct->ok_query($read),
		'and its own as soon as the standby has it');

	# Last, as it spoils the server connections.
	$seen = play_with_set($bouncer);
	cmp_ok($seen->{wrong}, '>', 0,
		'SET without LOCAL would leave the token to another client');
	stop_bouncer($bouncer);
};


##
## What a client asks for at its start
##

# (level it was told, level it runs at), or the error, of a client that asks for a level
sub level_asked_for
{
	my ($bouncer) = @_;
	my $client = eval { TcsWire->new($bouncer, options => '-c tcs.read_level=strong') }
	  or return $@ =~ /(unsupported startup parameter)/ ? $1 : $@;
	my $level = 'tcs.read_level';
	my $seen = $client->parameter($level) . '|' . $client->ok_query("SELECT current_setting('$level')");

	$client->disconnect;
	return $seen;
}

subtest 'options' => sub {
	my $ignore = "ignore_startup_parameters = options\n";
	my $track = "track_extra_parameters = IntervalStyle, tcs.session_token, tcs.read_level\n";
	my $bouncer = start_bouncer('set_local.ini', $standby);

	is(level_asked_for($bouncer), 'unsupported startup parameter', 'a level is refused');
	stop_bouncer($bouncer);
	$bouncer = start_bouncer('set_local.ini', $standby, $ignore);
	is(level_asked_for($bouncer), 'session|session', 'one that is dropped can be seen');
	stop_bouncer($bouncer);

	if ($tracks)
	{
		$bouncer = start_bouncer('standby.ini', $standby, "$ignore$track");
		is(level_asked_for($bouncer), 'strong|strong', 'one that is tracked holds');
		is($bouncer->{clients}[0]->ok_query("SELECT current_setting('tcs.read_level')"),
			'session', 'for that client alone');
		stop_bouncer($bouncer);
	}
};

done_testing();
