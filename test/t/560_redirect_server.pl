# test/t/560_redirect_server.pl
#
# The redirect server: its options and what tcs_fdw accepts, credentials of the
# user and what is refused about them; no password is to be seen anywhere. Servers
# that are not the right ones, and those without room, are in 565.
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
use TcsTest;
use TcsWire;

server_nodes();


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
## Passwords
##

subtest 'passwords' => sub {
	my $app = redirect_session($standby, $token, user => 'app');

	is(described($app, $read), 'new', 'redirected with a password');
	my @texts = (
		described($app, "EXPLAIN (VERBOSE) $read"),
		described($app, "EXPLAIN (ANALYZE, VERBOSE) $read"),
		described($app, 'SELECT * FROM tcs.stat_redirects'),
		described($app, "SET tcs.read_level = 'eventual'; SELECT * FROM pg_user_mappings"),
		described($app, 'SELECT * FROM pg_stat_activity'),
		$at_standby->ok_query('SELECT * FROM pg_stat_activity'),
		$at_standby->ok_query('SELECT * FROM tcs.stat_redirects'),
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

	no_password_logged();
};

done_testing();
