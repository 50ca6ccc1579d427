# test/t/720_examples.pl
#
# The programs in examples/, one per driver, against a primary and a standby on
# which replay stands still.  Each writes a row, takes the token from the
# primary to the standby and reads the row there, so it must be seen waiting
# while the standby does not have the row, and end well when replay goes on.
# The same program at "eventual" must say that the row is missing: otherwise its
# own check would prove nothing.  A driver that is not installed is skipped by
# name, with the package to install (see examples/install).  Then the check that
# HAProxy runs, as a role without any rights, and the queries of the exporter, as a member
# of pg_monitor.

use strict;
use warnings;

use File::Spec;
use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my $examples = File::Spec->rel2abs("$FindBin::RealBin/../../examples");
my $tmp = PostgreSQL::Test::Utils::tempdir();
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';

# Over TCP, as JDBC has nothing else; without a limit to the wait, since it is
# this test that lets it end; in UTF-8, as some drivers take text of SQL_ASCII
# for bytes.
my ($primary, $standby) = new_pair(
	init => { extra => [ '--encoding=UTF8', '--locale=C' ] },
	conf => "listen_addresses = '127.0.0.1'\ntcs.max_wait = -1\n");

$primary->safe_psql('postgres', slurp_file("$examples/notes.sql"));
wait_for_replay($primary, $standby);


##
## What it takes to run them
##

# True if the command runs and exits with 0; its output goes to ${$out}.
sub works
{
	my ($command, $out) = @_;
	my $output = '';

	# run() dies when there is no such program
	my $ok =
	  eval { IPC::Run::run($command, '<', \undef, '>&', \$output) };

	chomp $output;
	$$out = $output if $out;
	return $ok;
}

# The first program with which the probe works: Debian's are preferred to what
# else is in PATH, because Debian's modules are made for them.
sub first_that_works
{
	my ($probe, @programs) = @_;

	foreach my $program (@programs)
	{
		return $program if works([ $program, @$probe ]);
	}
	return;
}

# The functions below return nothing if what the example needs is not there,
# and otherwise { run => command, build => command, env => {} for building }.
# Building is part of the test: an example that does not compile is no driver
# that is not installed.

sub script
{
	my ($file, $probe, @programs) = @_;
	my $program = first_that_works($probe, @programs) or return;

	return { run => [ $program, "$examples/$file" ] };
}

sub libpq
{
	my ($include, $lib);

	works([ $pg_config, '--includedir' ], \$include)
	  && works([ $pg_config, '--libdir' ], \$lib)
	  && works([ 'cc', '--version' ])
	  && -e "$include/libpq-fe.h"
	  or return;
	return {
		build => [
			'cc', '-Wall', '-Werror', "-I$include", "$examples/libpq.c", '-o',
			"$tmp/libpq", "-L$lib", "-Wl,-rpath,$lib", '-lpq'
		],
		run => ["$tmp/libpq"] };
}

sub node
{
	my $global;

	works([ 'npm', 'root', '-g' ], \$global) or $global = '';
	$global =~ s/.*\n//s;
	$ENV{NODE_PATH} = join ':', grep { length } $global, '/usr/share/nodejs',
	  $ENV{NODE_PATH} // '';
	return script('node_postgres.js', [ '-e', "require('pg')" ], 'node');
}

# Debian's packages of Go libraries are a GOPATH, not modules.
sub pgx
{
	my $path = '/usr/share/gocode';

	-d "$path/src/github.com/jackc/pgx/v4" && works([ 'go', 'version' ])
	  or return;
	return {
		build => [ 'go', 'build', '-o', "$tmp/pgx", "$examples/pgx.go" ],
		env => {
			GO111MODULE => 'off',
			GOPATH => $path,
			GOCACHE => "$tmp/go"
		},
		run => ["$tmp/pgx"] };
}

sub jdbc
{
	my $jar = '/usr/share/java/postgresql.jar';

	-e $jar && works([ 'javac', '-version' ]) or return;
	return {
		build => [ 'javac', '-cp', $jar, '-d', $tmp, "$examples/Jdbc.java" ],
		run => [ 'java', '-XX:TieredStopAtLevel=1', '-cp', "$jar:$tmp", 'Jdbc' ]
	};
}

my @python = ('/usr/bin/python3', 'python3');
my @ruby = ('/usr/bin/ruby', 'ruby');
my @php = ('/usr/bin/php', 'php');

my @drivers = (
	[ 'libpq', 'libpq-dev gcc', libpq() ],
	[
		'psycopg 2',
		'python3-psycopg2',
		script('psycopg2_token.py', [ '-c', 'import psycopg2' ], @python)
	],
	[
		'psycopg 3',
		'python3-psycopg',
		script('psycopg3_token.py', [ '-c', 'import psycopg' ], @python)
	],
	[ 'node-postgres', 'nodejs and node-pg, or pg from npm', node() ],
	[ 'pgx', 'golang-go golang-github-jackc-pgx-v4-dev', pgx() ],
	[
		'ruby-pg', 'ruby-pg', script('ruby_pg.rb', [ '-e', "require 'pg'" ], @ruby)
	],
	[
		'PHP pgsql',
		'php-cli php-pgsql',
		script(
			'pgsql.php', [ '-r', "exit((int) !extension_loaded('pgsql'));" ],
			@php)
	],
	[
		'PHP PDO',
		'php-cli php-pgsql',
		script(
			'pdo.php', [ '-r', "exit((int) !extension_loaded('pdo_pgsql'));" ],
			@php)
	],
	[ 'JDBC', 'libpostgresql-jdbc-java default-jdk-headless', jdbc() ]);


##
## Running them
##

my $user = getpwuid($<);

# The address of a node in the form that a driver takes, with start-up options.
sub address
{
	my ($node, $driver, $options) = @_;
	my $port = $node->port;

	return "host=127.0.0.1 port=$port dbname=postgres user=$user options='$options'"
	  if $driver eq 'PHP PDO';

	my $url = "postgresql://127.0.0.1:$port/postgres?user=$user";

	$options =~ s/ /%20/g;
	$options =~ s/=/%3D/g;
	$url .= "&options=$options" if $options ne '';
	return $url;
}

# Starts an example; the result goes to ended() and finish_example().
sub start_example
{
	my ($driver, $command, $options) = @_;
	my %example = (output => '');

	local $ENV{PRIMARY_URL} = address($primary, $driver, '');
	local $ENV{STANDBY_URL} = address($standby, $driver, $options);

	$example{run} = IPC::Run::start($command, '<', \undef,
		'>&', \$example{output},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%example;
}

# (exit code, output)
sub finish_example
{
	my ($example) = @_;

	$example->{run}->finish;
	return ($example->{run}->result(0), $example->{output});
}

# Waits until a session waits at the standby, or the example has ended without.
sub seen_waiting
{
	my ($example) = @_;

	while (1)
	{
		return 1
		  if $standby->safe_psql('postgres',
			'SELECT waiting_sessions > 0 FROM tcs.status') eq 't';
		foreach (1 .. 3)
		{
			return 0 if !$example->{run}->pumpable;
			$example->{run}->pump_nb;
		}
	}
}

my $in_sight = 'SELECT count(*) FROM notes';

foreach (@drivers)
{
	my ($name, $package, $example) = @$_;

  SKIP:
	{
		skip "$name is not installed: $package", 1 if !$example;

		subtest $name => sub {
			my ($exit, $output, $running);

			if ($example->{build})
			{
				local %ENV = (%ENV, %{ $example->{env} // {} });

				ok(works($example->{build}, \$output), 'the example compiles')
				  or return diag($output);
			}

			pause_replay($standby);

			my $before = $standby->safe_psql('postgres', $in_sight);

			($exit, $output) = finish_example(
				start_example($name, $example->{run},
					'-c tcs.read_level=eventual'));
			is($exit, 1, 'at eventual the example fails');
			like(
				$output,
				qr/^token: \S+\nstandby: no such row$/m,
				'because the row is not there');

			$running = start_example($name, $example->{run}, '');
			ok(seen_waiting($running), 'with the token the read waits');
			is(read_at($standby, $in_sight, level => 'eventual'),
				$before, 'while the standby does not have the row');
			resume_replay($standby);
			($exit, $output) = finish_example($running);
			is($exit, 0, 'the example ends well when replay goes on');
			like(
				$output,
				qr/^token: \S+\nstandby: hello from \S/m,
				'and has read the row')
			  or diag($output);
		};
		wait_for_replay($primary, $standby);
	}
}



##
## Load balancing and monitoring
##

$primary->safe_psql('postgres', 'CREATE ROLE haproxy LOGIN; CREATE ROLE exporter LOGIN IN ROLE pg_monitor');
wait_for_replay($primary, $standby);

# As HAProxy calls it: addresses of the proxy and of the server, and the name of
# the backend.
sub check_command
{
	my ($port) = @_;

	return [ "$examples/haproxy_check.sh", '127.0.0.1', '5433', '127.0.0.1', $port ];
}

sub check_says_yes
{
	my ($port, $backend) = @_;

	local $ENV{HAPROXY_PROXY_NAME} = $backend // 'standbys';
	return works(check_command($port)) ? 't' : 'f';
}

sub wait_for_check
{
	my ($node, $expected) = @_;
	my $attempts = 10 * $PostgreSQL::Test::Utils::timeout_default;

	while ($attempts-- > 0)
	{
		return 1 if check_says_yes($node->port) eq $expected;
	}
	return 0;
}

# A server that lets the check in and then says nothing more: does the check end,
# and with which exit code?
sub check_of_a_server_that_hangs
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5)
	  or die "cannot listen: $!";

	local $ENV{PGSSLMODE} = 'disable';
	local $ENV{PGGSSENCMODE} = 'disable';

	my $output = '';
	my $check = IPC::Run::start(check_command($listener->sockport),
		'<', \undef, '>&', \$output,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $connection = $listener->accept;

	sysread($connection, my $startup, 1000);
	syswrite($connection, 'R' . pack('NN', 8, 0) . 'Z' . pack('N', 5) . 'I');
	sysread($connection, my $question, 1000);
	like($question, qr/^Q.*tcs\.can_serve/s, 'the check has asked');
	eval { $check->finish; 1 } or return 'it does not end';
	return $check->result(0);
}

subtest 'HAProxy' => sub {
	ok(wait_for_check($standby, 't'), 'the check lets a fresh standby serve');
	pause_replay($standby);
	$primary->safe_psql('postgres', "INSERT INTO notes (body) VALUES ('unseen')");
	ok(wait_for_check($standby, 'f'), 'but not one that has become too stale');
	is(check_says_yes($primary->port), 'f', 'nor the primary');
	is(check_says_yes($primary->port, 'primary'), 't', 'which is there if no standby is');
	is(check_says_yes($standby->port, 'primary'), 'f', 'and no standby is taken for it');
	resume_replay($standby);
	ok(wait_for_check($standby, 't'), 'the standby serves when it is fresh again');
	is(check_says_yes(PostgreSQL::Test::Cluster::get_free_port()),
		'f', 'a server that is not there does not');
	is(check_of_a_server_that_hangs(), 1, 'nor one that hangs, and the check ends');

	my ($haproxy) =
	  grep { -x } map { "$_/haproxy" } File::Spec->path, '/usr/sbin';
  SKIP:
	{
		skip 'haproxy is not installed: haproxy', 1 if !$haproxy;

		my $output;

		ok( works([ $haproxy, '-c', '-f', "$examples/haproxy.cfg" ], \$output),
			'haproxy takes the configuration')
		  or diag($output);
	}
};

subtest 'exporter' => sub {
	my $config = slurp_file("$examples/sql_exporter.yml");
	my ($startup) = $config =~ /^ *startup_sql:.*?- "(.*?)"$/ms;
	my @queries =
	  $config =~ /values: \[(.*?)\]\n *query: \|\n((?: {10}.*\n)+)/g;

	is(scalar @queries, 4, 'two queries were found');
	foreach my $node ($primary, $standby)
	{
		my @rest = @queries;

		while (my ($values, $query) = splice(@rest, 0, 2))
		{
			# the exporter takes no NULL
			my $check = join ' AND ', map { "($_ IS NOT NULL)" } split /, /, $values;

			is( read_at(
					$node,
					"$startup; SELECT count(*) > 0 AND bool_and($check) FROM ($query) q",
					user => 'exporter'),
				't',
				$node->name . ": $values");
		}
	}
};

done_testing();
