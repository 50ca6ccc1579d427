# test/t/525_redirect_names.pl
#
# What a redirected statement means on the primary: names that another object
# could take, under search_paths that invite it; values whose input functions
# depend on settings; and when a REPEATABLE READ transaction still has the choice
# to go over.

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
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i;
	CREATE TABLE public.pg_namespace (nspname text);
	INSERT INTO public.pg_namespace VALUES ('taken');
	CREATE FUNCTION public.lower(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT 'taken'::text$$;
	CREATE FUNCTION public.concat(text, text) RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT 'taken'::text$$;
	CREATE FUNCTION public.eq(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS $$SELECT false$$;
	CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.eq);
	CREATE TYPE public.int8 AS ENUM ('taken');
});
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token($primary, "UPDATE t SET v = 'NEW' WHERE id <= 3");

# The same statement on both nodes; the standby's is redirected.
sub same_rows
{
	my ($sql, %set) = @_;
	my $name = join(', ', map { "$_ = $set{$_}" } sort keys %set);

	is( read_at($standby, $sql, token => $token, set => \%set),
		read_at($primary, $sql, set => \%set),
		"$sql with $name");
}

foreach my $path ('public', 'public, pg_catalog', 'pg_catalog, public', 'pg_catalog', q{''})
{
	foreach my $sql (
		'SELECT count(*) > 3 FROM pg_catalog.pg_namespace, public.t WHERE id = 1',
		q{SELECT pg_catalog.lower(v), pg_catalog.concat(v, 'x') FROM public.t WHERE id = 1},
		'SELECT lower(v), concat(v, v) FROM public.t WHERE id = 1',
		q{SELECT v OPERATOR(pg_catalog.=) 'NEW', v = 'NEW' FROM public.t WHERE id = 1},
		'SELECT id::pg_catalog.int8 + 1, v FROM public.t WHERE id = 1')
	{
		same_rows($sql, search_path => $path);
	}
}

same_rows('SELECT xmlparse(content v || v) FROM t WHERE id = 1', xmloption => 'document');
same_rows(q{SELECT xmlelement(name a, v), '<b/>'::xml FROM t WHERE id = 1}, xmloption => 'content');

# What shows nothing of the snapshot does not decide where the transaction runs.
foreach my $first (
	'SELECT 1',
	q{SELECT set_config('app.x', '1', true)},
	'SELECT count(*) > 0 FROM pg_stat_activity',
	'PREPARE p AS SELECT 1',
	'EXPLAIN SELECT v FROM t',
	'CLOSE ALL',
	'SAVEPOINT s; CLOSE nothing; ROLLBACK TO s',
	'PREPARE p AS SELECT 1; DEALLOCATE p',
	'DEALLOCATE ALL',
	'DISCARD PLANS',
	'DISCARD SEQUENCES',
	q{LOAD 'plpgsql'},
	q{SAVEPOINT s; CALL tcs.wait_for('x'); ROLLBACK TO s},
	'DECLARE c CURSOR FOR SELECT 1',
	'DECLARE c CURSOR FOR SELECT 1; FETCH ALL FROM c; CLOSE c',
	'COPY (SELECT 1) TO STDOUT',
	'EXPLAIN (ANALYZE) SELECT 1',
	'PREPARE p AS SELECT 1; EXECUTE p')
{
	my $out = read_at($standby,
		"BEGIN ISOLATION LEVEL REPEATABLE READ; $first; SELECT v FROM t WHERE id = 1; COMMIT",
		token => $token, on_error_stop => 0);

	is((split /\n/, $out)[-1], 'NEW', "REPEATABLE READ: redirected after $first");
}
is( (split /\n/, read_at($standby, q{
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT v FROM t WHERE id = 1;
		SAVEPOINT a; SET LOCAL app.x = 'inner'; SELECT v FROM t WHERE id = 2; ROLLBACK TO a;
		SELECT coalesce(current_setting('app.x', true), '') || v FROM t WHERE id = 3;
		COMMIT}, token => $token))[-1],
	'NEW', 'REPEATABLE READ: a setting that is rolled back');

# why it was not
my ($state, $stderr) = psql_err($standby, 'DO $$BEGIN PERFORM v FROM t; END$$',
	token => $token, max_wait => 0);
is($state, 'TC001', 'DO stays here');
like($stderr, qr/not redirected: a statement of this kind stays/, '... and says so');

done_testing();
