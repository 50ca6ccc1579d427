# test/t/655_recipes.pl
#
# The recipes of examples/levels.sql: made on the primary, each statement gets
# the level that the manual's table names, on the primary and on both standbys.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my ($primary, $s1, $s2) = new_cluster(standbys => 2);

$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'ANY 1 (standby1, standby2)'");
$primary->reload;
$primary->safe_psql('postgres', slurp_file("$FindBin::RealBin/../../examples/levels.sql"));
# twice, as nobody knows whether it was run before
$primary->safe_psql('postgres', slurp_file("$FindBin::RealBin/../../examples/levels.sql"));
$primary->safe_psql('postgres', q{
INSERT INTO password VALUES ('ada', 'x', now());
INSERT INTO balance VALUES (1, 100);
});
wait_for_replay($primary, $_) foreach ($s1, $s2);

# The manual's table: what, level, and what a commit gets.
my @recipes = (
	[ 'password', 'strong', 'quorum' ],
	[ 'cart', 'session', 'default' ],
	[ 'view_count', 'eventual', 'default' ],
	[ 'balance', 'linearizable', 'strong' ],
	[ 'friend', 'read_your_writes', 'default' ],
	[ 'sale', 'bounded', 'default' ]);

foreach my $recipe (@recipes)
{
	my ($table, $level, $write_level) = @$recipe;

	foreach my $node ($primary, $s1, $s2)
	{
		my $name = $node->name;
		my ($got, $source, $reason) = split /\|/,
		  read_at($node, "SELECT level, concat_ws(' ', level_source, rule_id), level_detail FROM tcs.explain_level('SELECT * FROM $table')");

		is($got, $level, "$table on $name: $level");
		like($source, qr/^rule \d+$/, '... by a rule');
		like($reason, qr/^the strongest rule .*: \w/, '... with its reason');
		is( (split /\n/,
				read_at($node, "SELECT * FROM $table; SELECT level FROM tcs.last_read", max_wait => '60s'))[-1],
			$level,
			'... and that is what it is served at');
	}
	is( read_at($primary, "SELECT write_level FROM tcs.explain_level('DELETE FROM $table')"),
		$write_level, "a commit that writes $table: $write_level");
}

# What a client says comes first, but for the floor.
is(read_at($s1, "SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.explain_level('SELECT * FROM $_->[0]')",
		level => 'eventual'),
	$_->[1], "eventual by SET, $_->[0]")
  foreach ([ 'cart', 'eventual by session' ]);
like(read_at($s1, "SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.explain_level('/* tcs(eventual) */ SELECT * FROM $_')"),
	qr/^strong by floor \d/, "eventual by hint, $_")
  foreach ('password', 'balance');

# A dump reads everything by one snapshot, which has to be taken at the strongest
# of the levels.
foreach my $node ($primary, $s1)
{
	local $ENV{PGOPTIONS} = '-c tcs.read_level=linearizable -c tcs.max_wait=60s';

	command_ok([ $node->installed_command('pg_dump'), '-f', $node->basedir . '/dump.sql', '-d', $node->connstr('postgres') ],
		'pg_dump from ' . $node->name);
	like(slurp_file($node->basedir . '/dump.sql'), qr/^1\t100\.00$/m, '... with its rows');
}

done_testing();
