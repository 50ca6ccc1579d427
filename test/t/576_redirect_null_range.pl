# test/t/576_redirect_null_range.pl
#
# A redirect server that sends a multirange with a NULL in it, which none can have.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my ($primary, $standby) = new_pair();

redirect_to($primary);
$primary->safe_psql('postgres', q{
CREATE TYPE names AS RANGE (subtype = regclass, multirange_type_name = several);
CREATE TABLE t AS SELECT '{[pg_class,pg_class]}'::several AS v});
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token($primary, 'INSERT INTO t SELECT * FROM t');
my %way = (token => $token, set => { 'tcs.redirect_after' => 0 });

is(read_at($standby, 'SELECT count(*), min(v::text) FROM t', %way), '2|{[pg_class,pg_class]}', 'redirected');
is(read_at($standby, 'SELECT v FROM t LIMIT 1', %way), '{[pg_class,pg_class]}', 'a multirange');
$primary->safe_psql('postgres', q{
CREATE OR REPLACE FUNCTION tcs_internal.redirect_text(value record) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS
	$$BEGIN RETURN '00000001ffffffff:'; END$$});
like((psql_err($standby, 'SELECT v FROM t LIMIT 1', %way))[1],
	qr/malformed value of type several/, 'one with a NULL is refused');
is($standby->safe_psql('postgres', 'SELECT 1'), '1', '... and the standby goes on');
resume_replay($standby);

done_testing();
