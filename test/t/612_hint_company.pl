# test/t/612_hint_company.pl
#
# Hints in other company: on the primary, where statements write as well, and
# together with the hints of pg_hint_plan, where that is installed (Debian:
# postgresql-NN-pg-hint-plan).

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsRules;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();
my $strong = '/* tcs(strong) */';
my $read = 'SELECT v FROM t';

$primary->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)');
wait_for_replay($primary, $standby);
wait_for_answer($standby);


##
## On the primary
##

{
	my $p = TcsWire->new($primary);

	is(level_of($p, "$strong $read"), 'strong|hint', 'primary: SELECT');
	is(level_of($p, "CREATE TABLE copied AS $strong $read"), 'strong|hint', 'primary: CREATE TABLE AS');
	is( level_of($p, "CREATE TABLE IF NOT EXISTS copied2 (a) WITH (fillfactor = 50) AS $strong $read"),
		'strong|hint',
		'... with options');
	is(answers($p->query("$strong INSERT INTO copied VALUES (1); SELECT count(*) FROM copied")),
		' / 2', 'primary: a write with a hint');
	is(answers($p->query('/* tcs(stong) */ INSERT INTO copied VALUES (1)')), '22023', '... with a malformed one');
	$p->disconnect;
}


##
## Together with pg_hint_plan
##

SKIP:
{
	my $both = TcsWire->new($standby);

	skip 'pg_hint_plan is not installed', 12
	  if first_error($both->query(q{LOAD 'pg_hint_plan'})) ne '00000';

	my $query = 'SELECT v FROM t WHERE id = 1';
	my $explain = 'EXPLAIN (ANALYZE, COSTS off)';

	foreach my $case (
		[ 'behind it', "$explain /*+ SeqScan(t) */ $strong $query", "$explain /*+ IndexScan(t) */ $strong $query" ],
		[ 'before it', "$explain $strong /*+ SeqScan(t) */ $query", "$explain $strong /*+ IndexScan(t) */ $query" ],
		[ 'before it and all', "$strong /*+ SeqScan(t) */ $explain $query", "$strong /*+ IndexScan(t) */ $explain $query" ],
		[ 'behind it, before all', "/*+ SeqScan(t) */ $strong $explain $query", "/*+ IndexScan(t) */ $strong $explain $query" ])
	{
		my ($where, $by_seq, $by_index) = @$case;

		like($both->ok_query($by_seq), qr/Seq Scan on t/, "pg_hint_plan: hint $where, SeqScan");
		is($both->ok_query('SELECT level, level_source FROM tcs.last_read'), 'strong|hint', '... and the level');
		like($both->ok_query($by_index), qr/Index Scan using/, '... IndexScan');
	}
	$both->disconnect;
}

done_testing();
