# test/t/059_redirect_stranger.pl
#
# A redirect calls no function of a stranger.  The extension is gone from the
# primary, somebody has made a schema of its name there, and a standby that is
# behind still has its redirect server, for a superuser.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsTest;

my ($primary, $standby) = new_pair();

redirect_to($primary);
$primary->safe_psql('postgres', q{
	CREATE TABLE t AS SELECT 1 AS v;
	CREATE ROLE mallory LOGIN;
	GRANT CREATE ON DATABASE postgres TO mallory;
});
wait_for_replay($primary, $standby);
pause_replay($standby);

$primary->safe_psql('postgres', 'UPDATE t SET v = 2');
is(read_at($standby, 'SELECT v FROM t', level => 'strong'), '2', 'redirected');

# One that fits the name and any text fits better than an unknown parameter would.
$primary->safe_psql('postgres', 'GRANT CREATE ON SCHEMA tcs TO mallory');
my $functions = q{
	CREATE FUNCTION tcs.redirect_begin(text, text, text, bytea) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN ''; END$$;
	CREATE FUNCTION tcs.redirect_settings(text) RETURNS void LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; END$$;
};
my $position = log_position($primary);

is(psql_err($primary, $functions, user => 'mallory'), '00000', 'functions of the same names');
is(read_at($standby, 'SELECT v FROM t', level => 'strong'), '2', '... are not those that are called');

$primary->safe_psql('postgres', q{
	DROP EXTENSION tcs CASCADE;
	DROP SCHEMA tcs CASCADE;
});
$functions =~ s/redirect_begin\(text/redirect_begin(bigint/;
$functions =~ s/redirect_settings\(text/redirect_settings(bytea/;
is(psql_err($primary, "CREATE SCHEMA tcs; GRANT USAGE ON SCHEMA tcs TO PUBLIC; $functions", user => 'mallory'),
	'00000', 'a schema of that name');

my ($state, $message) = psql_err($standby, 'SET tcs.read_level = strong; SELECT v FROM t');

is($state, 'TC001', 'nothing is redirected to it');
like($message, qr/extension tcs is not installed in this database/, '... for that reason');
unlike(log_since($primary, $position), qr/LOG:  called by/, 'no function of it was called');

done_testing();
