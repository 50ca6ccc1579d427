# test/perl/TcsStops.pm
#
# A module for the server that stops a statement where it has its snapshot and has not
# begun.
#
#     my $problem = build_stopping($folder, 'pg_sleep');
#
# Load $folder/stopping after tcs: libraries that are loaded later are called first, so
# a statement is stopped before it comes to the gate.

package TcsStops;

use strict;
use warnings;

use Exporter 'import';

use TcsTest;

our @EXPORT = qw(build_stopping);

# build_stopping($folder, $text)
#
# Builds the module, which stops what has the text in it.  It waits as long as the file
# "armed" is there, and makes the file "reached".  Returns as build_module() does.
sub build_stopping
{
	my ($folder, $text) = @_;

	return build_module("$folder/stopping.so", <<"EOC");
#include "postgres.h"

#include <unistd.h>

#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static ExecutorStart_hook_type prev_start = NULL;

static void
stop_at_start(QueryDesc *queryDesc, int eflags)
{
	if (strstr(queryDesc->sourceText, "$text") != NULL &&
		access("$folder/armed", F_OK) == 0)
	{
		fclose(fopen("$folder/reached", "w"));
		while (access("$folder/armed", F_OK) == 0)
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(1000);
		}
	}
	if (prev_start)
		prev_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

void
_PG_init(void)
{
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = stop_at_start;
}
EOC
}

1;
