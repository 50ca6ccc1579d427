# test/t/560_redirect_server.pl
#
# The redirect server: its options and what tcs_fdw accepts, credentials of the
# user and what is refused about them, servers that are not the primary of this
# cluster and database, servers and mappings that are changed while they are in
# use, a primary without room, and the number of connections that a standby may
# have.  What must not be redirected goes on with the next step of tcs.fallback
# and says why; no password is to be seen anywhere.
#
# Replay stands still wherever nothing is said: rows that are "new" come from
# the primary, "old" ones from the standby.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsRedirect;
use TcsResults;
use TcsTest;
use TcsWire;

my $read = 'SELECT v FROM t WHERE id = 1';
my $endless = 'SELECT v, pg_sleep(600) FROM t WHERE id = 1';
my $large = "SELECT id, g, v || repeat('x', 990) FROM t, generate_series(1, 20000) g WHERE id = 1";

# What no output may have.
my $secret = 'tr0ub4dor-';


##
## Nodes, roles, servers
##

my $room = 20;
my ($primary, $standby, $second) = new_cluster(
	standbys => 2,
	conf => qq{
max_connections = $room
max_wal_senders = 10
tcs.max_wait = 0
tcs.redirect_after = 0
tcs.redirect_timeout = '60s'
});
my $other = new_primary('other', conf => "max_connections = 20\n");
my $major = server_version($primary);

$other->safe_psql('postgres',
	q{CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'foreign')});

# Who says which password to whom:  app the right one, wrong a wrong one, bare
# none, empty an empty one, trusted one that nobody asks for, waived none where a
# superuser has said that none is required, weak that of strong, unmapped has no
# mapping but where PUBLIC has one.
my @roles = qw(app wrong bare empty trusted waived weak strong unmapped full);

sub options_of
{
	my ($node, @more) = @_;

	return join ', ', sprintf("host '%s', port '%s'", $node->host, $node->port), @more;
}

sub create_server
{
	my ($name, $options) = @_;

	return "CREATE SERVER $name FOREIGN DATA WRAPPER tcs_fdw OPTIONS ($options);\n"
	  . "CREATE USER MAPPING FOR CURRENT_USER SERVER $name;\n";
}

$primary->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$primary->safe_psql('elsewhere',
	q{CREATE EXTENSION tcs; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'elsewhere')});
$primary->safe_psql('postgres', 'CREATE DATABASE plain');
redirect_to($primary);
$primary->safe_psql(
	'postgres',
	"SET log_statement = 'none';\n"
	  . "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old');\n"
	  . "GRANT SELECT ON t TO PUBLIC;\n"
	  . join('', map { "CREATE ROLE $_ LOGIN PASSWORD '$secret$_';\n" } @roles)
	  . "CREATE USER MAPPING FOR app SERVER tcs_primary OPTIONS (password '${secret}app');\n"
	  . "CREATE USER MAPPING FOR full SERVER tcs_primary OPTIONS (password '${secret}full');\n"
	  . "CREATE USER MAPPING FOR wrong SERVER tcs_primary OPTIONS (password '${secret}not-it');\n"
	  . "CREATE USER MAPPING FOR bare SERVER tcs_primary;\n"
	  . "CREATE USER MAPPING FOR empty SERVER tcs_primary OPTIONS (password '');\n"
	  . "CREATE USER MAPPING FOR trusted SERVER tcs_primary OPTIONS (password '${secret}trusted');\n"
	  . "CREATE USER MAPPING FOR waived SERVER tcs_primary OPTIONS (password_required 'false');\n"
	  . "CREATE USER MAPPING FOR weak SERVER tcs_primary OPTIONS (user 'strong', password '${secret}strong');\n"
	  . create_server('to_standby', options_of($second))
	  . create_server('to_any_standby', options_of($second, q{target_session_attrs 'any'}))
	  . create_server('to_itself', options_of($standby))
	  . create_server('to_itself_any', options_of($standby, q{target_session_attrs 'any'}))
	  . create_server('to_other', options_of($other))
	  . create_server('to_elsewhere', options_of($primary, q{dbname 'elsewhere'}))
	  . create_server('to_plain', options_of($primary, q{dbname 'plain'}))
	  . create_server('to_nowhere', options_of($primary, q{dbname 'nowhere'}))
	  . create_server('to_nobody', sprintf(q{host '%s', port '1'}, $primary->host))
	  . create_server('with_options', options_of($primary, q{options '-c search_path=nowhere -c default_transaction_read_only=on'}))
	  . create_server('moving', options_of($primary))
	  . "CREATE SERVER for_all FOREIGN DATA WRAPPER tcs_fdw OPTIONS (" . options_of($primary) . ");\n"
	  . "CREATE USER MAPPING FOR PUBLIC SERVER for_all OPTIONS (user 'strong', password '${secret}strong');\n"
	  . "CREATE SERVER as_app FOREIGN DATA WRAPPER tcs_fdw OPTIONS (" . options_of($primary) . ");\n"
	  . "CREATE USER MAPPING FOR CURRENT_USER SERVER as_app OPTIONS (user 'app', password '${secret}app');\n"
	  . "CREATE FOREIGN DATA WRAPPER nothing;\n"
	  . "CREATE SERVER of_nothing FOREIGN DATA WRAPPER nothing;\n"
	  . "CREATE USER MAPPING FOR CURRENT_USER SERVER of_nothing;\n"
);
wait_for_replay($primary, $_) foreach ($standby, $second);

# The primary asks these for their passwords; the standbys ask nobody.
my @hba = (
	(map { "local all $_ scram-sha-256" } grep { $_ !~ /^(trusted|waived)$/ } @roles),
	'local all all trust',
	'local replication all trust');

unlink($primary->data_dir . '/pg_hba.conf');
$primary->append_conf('pg_hba.conf', join("\n", @hba) . "\n");
$primary->reload;
$primary->poll_query_until('postgres',
	'SELECT count(*) = ' . scalar(@hba) . ' FROM pg_hba_file_rules')
  or die 'pg_hba.conf was not read';

my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $token;

# Rows of the primary are new, those of the standby old; statements that were
# given are known to both.
sub part
{
	my ($sql) = @_;

	resume_replay($standby);
	$primary->safe_psql('postgres', "UPDATE t SET v = 'old';" . ($sql // ''));
	wait_for_replay($primary, $standby);
	pause_replay($standby);
	$token = write_token($primary, q{UPDATE t SET v = 'new'});
	return;
}

part();

sub answer_of
{
	return TcsWire::describe_result($_[-1]);
}

sub redirects
{
	my ($columns) = @_;

	return $at_standby->ok_query("SELECT $columns FROM tcs.redirects()");
}

# A read that must not be redirected.
sub check_refused
{
	my ($what, $reason, %opt) = @_;
	my $client = redirect_session($standby, $token, %opt);

	like(described($client, $read), qr/^TC001: .*not redirected: .*$reason/, "$what: the next step, with the reason");
	is(described($client, "SET tcs.fallback = 'redirect, eventual'; $read"),
		'old', '... which may be a weaker level');
	is($client->status, 'I', '... and the session lives');
	$client->disconnect;
	return;
}

# Change settings of the standby by its file.
sub configure_standby
{
	my ($name, $value) = @_;

	$standby->append_conf('postgresql.conf', "$name = $value\n");
	$standby->reload;
	$at_standby->poll("SELECT setting = '$value' FROM pg_settings WHERE name = '$name'")
	  or die "$name was not read";
	return;
}

# The processes on the primary, when there are so many.
sub remote_pids
{
	my ($count) = @_;

	$primary->poll_query_until('postgres',
		"SELECT count(*) = $count FROM pg_stat_activity WHERE application_name = 'tcs'")
	  or die "never $count connections";
	return $primary->safe_psql('postgres',
		q{SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity WHERE application_name = 'tcs'});
}


##
## Options
##

subtest 'what the wrapper accepts' => sub {
	my $node = TcsWire->new($primary);
	my $invalid = 'HV00D';

	foreach (
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw}, '00000' ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host 'h', port '1', dbname 'd', sslmode 'require', connect_timeout '3', application_name 'a', options '-c work_mem=1MB', target_session_attrs 'any')}, '00000' ],
		[ qq{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (password '${secret}server')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (user 'u')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (sslpassword 'p')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (client_encoding 'UTF8')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (fallback_application_name 'a')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (replication 'true')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (hots 'h')}, $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (use_scram_passthrough 'true')}, $major >= 18 ? '00000' : $invalid ],
		[ qq{ALTER SERVER tcs_primary OPTIONS (ADD password '${secret}server')}, $invalid ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (user 'u', password 'p')}, '00000' ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (sslpassword 'p', sslcert 'c', sslkey 'k')}, '00000' ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (password_required 'false')}, '00000' ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (password_required 'perhaps')}, '42601' ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (gssdelegation '1')}, $major >= 16 ? '00000' : $invalid ],
		[ q{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (password_required 'false')}, $invalid ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (host 'h')}, $invalid ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (dbname 'd')}, $invalid ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (options '-c role=strong')}, $invalid ],
		[ q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (nothing 'h')}, $invalid ],
		[ q{ALTER USER MAPPING FOR app SERVER tcs_primary OPTIONS (ADD port '1')}, $invalid ],
		[ q{ALTER FOREIGN DATA WRAPPER tcs_fdw OPTIONS (ADD host 'h')}, $invalid ])
	{
		my ($sql, $state) = @$_;

		is(($node->query("BEGIN; $sql"))[-1]{state}, $state, $sql =~ s/$secret/.../r);
		$node->query('ROLLBACK');
	}
	my ($error) = grep { $_->{state} ne '00000' }
	  $node->query(qq{CREATE SERVER s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (password '${secret}server')});

	is($error->{error}{H}, 'Put it into the user mapping.', 'the hint says where it belongs');
	($error) = $node->query(q{CREATE USER MAPPING FOR unmapped SERVER tcs_primary OPTIONS (host 'h')});
	is($error->{error}{H}, 'Put it into the server.', '... and the other way round');
	$node->disconnect;
};


# As in postgres_fdw: what waives the proof of who somebody is, and what belongs to
# the server's machine, is for superusers.  Users can make mappings for themselves.
subtest 'what is for superusers' => sub {
	my $node = TcsWire->new($primary);
	my $mine = 'MAPPING FOR unmapped SERVER tcs_primary OPTIONS';

	foreach (
		[ '', "CREATE USER $mine (password 'p')", '00000' ],
		[ '', "CREATE USER $mine (password 'p', password_required 'true')", '00000' ],
		[ '', "CREATE USER $mine (password 'p', password_required 'false')", '42501' ],
		[ '', "CREATE USER $mine (password 'p', sslcert 'c')", '42501' ],
		[ '', "CREATE USER $mine (password 'p', sslkey 'k')", '42501' ],
		[ "CREATE USER $mine (password_required 'false')", "ALTER USER $mine (ADD user 'strong')", '42501' ],
		[ "CREATE USER $mine (password_required 'false')", "ALTER USER $mine (SET password_required 'true')", '00000' ],
		[ "CREATE USER $mine (password 'p')", "ALTER USER $mine (ADD password_required 'false')", '42501' ],
		[ "CREATE USER $mine (password 'p')", "ALTER USER $mine (ADD sslkey 'k')", '42501' ],
		[ "CREATE USER $mine (sslcert 'c')", "ALTER USER $mine (DROP sslcert)", '00000' ])
	{
		my ($before, $sql, $state) = @$_;

		is(($node->query("BEGIN; GRANT USAGE ON FOREIGN SERVER tcs_primary TO unmapped; $before; SET LOCAL ROLE unmapped; $sql"))[-1]{state},
			$state, "$before: $sql");
		$node->query('ROLLBACK');
	}
	$node->disconnect;
};


##
## Credentials
##

subtest 'credentials' => sub {
	my $app = redirect_session($standby, $token, user => 'app');

	is(described($app, "SELECT v, current_user, session_user FROM t WHERE id = 1"),
		'new|app|app', 'a user with a password: redirected as that user');
	is(described($app, "SET ROLE unmapped"), '42501: permission denied to set role "unmapped"',
		'... who is no other');
	$app->disconnect;

	check_refused('a wrong password', 'password authentication failed for user "wrong"', user => 'wrong');
	check_refused('no mapping', 'has no user mapping for "unmapped"', user => 'unmapped');
	check_refused('no password', 'the user mapping of "bare" has no password', user => 'bare');
	check_refused('an empty password', 'the user mapping of "empty" has no password', user => 'empty');
	check_refused('a password that nobody asks for',
		'the server did not ask for the password', user => 'trusted');

	my $waived = redirect_session($standby, $token, user => 'waived');

	is(described($waived, "SELECT v, session_user FROM t WHERE id = 1"), 'new|waived', 'password_required is false: none is needed');
	$waived->disconnect;
	check_refused('the password of another user',
		'the redirect server leads to user "strong" in place of "weak"', user => 'weak');

	my $denied = redirect_session($standby, $token, user => 'app');

	like(described($denied, q{SET tcs.redirect_server = 'for_all'}), qr/^42501: /,
		'the server is not for everybody to choose');
	$denied->disconnect;

	$at_standby->ok_query('SELECT 1');
	configure_standby('tcs.redirect_server', 'for_all');
	foreach my $user (qw(unmapped app))
	{
		my $client = redirect_session($standby, $token, user => $user);

		like(described($client, $read),
			qr/^TC001: .*the redirect server leads to user "strong" in place of "$user"/,
			"a mapping of PUBLIC to a stronger role: refused for $user");
		$client->disconnect;
	}
	my $strong = redirect_session($standby, $token, user => 'strong');

	is(described($strong, $read), 'new', '... but not for that role');
	$strong->disconnect;
	check_refused('the mapping of PUBLIC, for a superuser',
		'leads to user "strong" in place of "' . getpwuid($<) . '"', server => 'for_all');
	check_refused('a mapping to a weaker role',
		'leads to user "app" in place of "' . getpwuid($<) . '"', server => 'as_app');
	configure_standby('tcs.redirect_server', 'tcs_primary');
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

subtest 'SET SESSION AUTHORIZATION' => sub {
	my $client = redirect_session($standby, $token);
	my $who = 'SELECT v, current_user, session_user FROM t WHERE id = 1';
	my $me = getpwuid($<);

	is(described($client, $who), "new|$me|$me", 'as superuser');
	my $first = remote_pids(1);

	$client->ok_query('SET SESSION AUTHORIZATION app');
	is(described($client, $who), 'new|app|app', 'as another user: another connection');
	isnt(remote_pids(1), $first, '... indeed');
	is(redirects('connections'), '1', '... in place of the first');
	$client->ok_query('SET SESSION AUTHORIZATION wrong');
	like(described($client, $who), qr/^TC001: .*password authentication failed/, 'as one with a wrong password');
	$client->ok_query('SET SESSION AUTHORIZATION trusted');
	like(described($client, $who), qr/^TC001: .*did not ask/, 'as one who needs no password there');
	$client->ok_query('RESET SESSION AUTHORIZATION; SET ROLE app');
	is(described($client, $who), "new|app|$me", 'as superuser in a role');
	$client->ok_query('RESET ROLE');
	is(described($client, $who), "new|$me|$me", 'and as superuser again');

	# in the middle of a transaction, with rows still to come
	$client->ok_query("BEGIN; DECLARE c CURSOR FOR $large; FETCH 4 FROM c");
	$client->ok_query('SET LOCAL SESSION AUTHORIZATION app');
	is(described($client, $who), 'new|app|app', 'another user while a cursor is half read');
	is(scalar(@{ ($client->query('FETCH ALL FROM c'))[-1]{rows} }),
		20000 - 4, '... which still has its rows');
	$client->ok_query('COMMIT');
	is(described($client, $who), "new|$me|$me", 'the user is restored with the transaction');
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

SKIP:
{
	skip 'use_scram_passthrough comes with PostgreSQL 18', 1 if $major < 18;

	subtest 'use_scram_passthrough' => sub {
		part(q{CREATE ROLE passed LOGIN PASSWORD 'passed-on';
			CREATE USER MAPPING FOR passed SERVER tcs_primary OPTIONS (use_scram_passthrough 'true')});

		my $text = slurp_file($primary->data_dir . '/pg_hba.conf');

		foreach my $node ($primary, $standby)
		{
			my $now = slurp_file($node->data_dir . '/pg_hba.conf');

			unlink($node->data_dir . '/pg_hba.conf');
			$node->append_conf('pg_hba.conf', "local all passed scram-sha-256\n$now");
			$node->reload;
			local $ENV{PGOPTIONS} = '-c tcs.read_level=eventual';
			$node->poll_query_until('postgres',
				q{SELECT count(*) = 1 FROM pg_hba_file_rules WHERE 'passed' = ANY (user_name)});
		}
		{
			local $ENV{PGPASSWORD} = 'passed-on';

			is(read_at($standby, $read, user => 'passed', token => $token),
				'new', 'the keys of the client are passed on');
		}

		# one who did not show any keys
		my $client = redirect_session($standby, $token);

		$client->ok_query('SET SESSION AUTHORIZATION passed');
		like(described($client, $read), qr/^TC001: .*has no password/, 'without keys there is nothing to pass on');
		$client->disconnect;
	};
}


##
## Servers that are not the right ones
##

subtest 'wrong servers' => sub {
	my $none = redirect_session($standby, $token, server => '');

	like(described($none, $read), qr/^TC001: /, 'no server at all: not redirected');
	unlike(described($none, $read), qr/redirected/, '... and nothing is said of it');
	is(described($none, 'SELECT server IS NULL FROM tcs.redirects()'), 't', '... as in tcs.redirects()');
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
	check_refused('a database without the extension', 'database "plain" there has no extension tcs \(see option dbname', server => 'to_plain');
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


##
## Passwords
##

subtest 'passwords' => sub {
	my $app = redirect_session($standby, $token, user => 'app');

	is(described($app, $read), 'new', 'redirected with a password');
	my @texts = (
		described($app, "EXPLAIN (VERBOSE) $read"),
		described($app, "EXPLAIN (ANALYZE, VERBOSE) $read"),
		described($app, 'SELECT * FROM tcs.redirects()'),
		described($app, "SET tcs.read_level = 'eventual'; SELECT * FROM pg_user_mappings"),
		described($app, 'SELECT * FROM pg_stat_activity'),
		$at_standby->ok_query('SELECT * FROM pg_stat_activity'),
		$at_standby->ok_query('SELECT * FROM tcs.redirects()'),
		$primary->safe_psql('postgres', 'SELECT * FROM pg_stat_activity'));

	like($texts[0], qr/TcsRedirect/, 'EXPLAIN says that it is redirected');
	is(scalar(grep { /$secret/ } @texts), 0, 'EXPLAIN and views show no password')
	  or diag(grep { /$secret/ } @texts);
	$app->disconnect;

	foreach my $user (qw(wrong trusted weak))
	{
		my $client = redirect_session($standby, $token, user => $user);
		my ($result) = $client->query($read);

		is($result->{state}, 'TC001', "$user: not redirected");
		is(scalar(grep { /$secret/ } values %{ $result->{error} }), 0, '... nor does the error show a password');
		$client->disconnect;
	}

	# statements of the test itself are not what is looked for
	foreach my $node ($primary, $standby, $second)
	{
		my @lines = grep { /$secret/ && !/ (SERVER|LOG:  statement:)/ } split /\n/, slurp_file($node->logfile);

		is(scalar(@lines), 0, 'no password in the log of ' . $node->name) or diag(@lines);
	}
};

done_testing();
