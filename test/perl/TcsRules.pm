# test/perl/TcsRules.pm
#
# Rules by data: statements that all nodes have, and which level a statement gets
# from whom.

package TcsRules;

use strict;
use warnings;

use Exporter 'import';

use TcsResults;
use TcsTest;

our @EXPORT = qw(everywhere explain explain_column served level_of rules);

# Runs statements on the first of the nodes, the primary, with options of read_at.
# Returns when the other nodes have replayed them.
sub everywhere
{
	my ($nodes, $sql, %opt) = @_;
	my ($primary, @standbys) = @$nodes;

	read_at($primary, $sql, %opt);
	wait_for_replay($primary, $_) foreach (@standbys);
	return;
}

# The level that a statement gets on a node, and from whom, without running it:
# "strong by rule 1".
sub explain
{
	my ($node, $sql, %opt) = @_;

	return explain_column($node, "level || ' by ' || concat_ws(' ', level_source, rule_id)", $sql, %opt);
}

# A column of tcs.explain_level() for the statement.
sub explain_column
{
	my ($node, $column, $sql, %opt) = @_;

	return read_at($node, "SELECT $column FROM tcs.explain_level(\$q\$$sql\$q\$)", %opt);
}

# The same as explain() of a statement that is run.
sub served
{
	my ($node, $sql, %opt) = @_;

	return (split /\n/,
		read_at($node, "$sql; SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.last_read", %opt))[-1];
}

# What the last statement that a TcsWire client sends in $sql was read at:
# "strong|hint"; or the SQLSTATE of the first error.
sub level_of
{
	my ($client, $sql) = @_;
	my $state = first_error($client->query($sql));

	return $state if $state ne '00000';
	return $client->ok_query('SELECT level, level_source FROM tcs.last_read');
}

# What the rules of a node are for, in the order in which they were made.
sub rules
{
	my ($node, %opt) = @_;

	return read_at($node, q{SELECT string_agg(concat_ws(' ', relation, function, schema, role, application_name), ', ' ORDER BY id) FROM tcs.rules},
		level => 'eventual', %opt);
}

1;
