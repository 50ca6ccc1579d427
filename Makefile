# Makefile of tcs (PGXS)
#
#   make                    build against the pg_config in PATH
#   make install            install the library, the control file, the scripts
#   make PG_CONFIG=/path    the same against another server
#   make test               every test, on temporary instances (see test/run)
#   make test PG=17         the same on another major version
#   make test T=test/t/100_x.pl     one TAP test (or REGRESS=, ISOLATION=, CONSISTENCY=)
#   make torture SECONDS=3600       the consistency checker with faults, for an hour;
#                           SEED=, MIX="lag cut", LEVELS="strong session", VERBOSE=1
#   make check-core         PostgreSQL's own tests with tcs on every node (1 to 3 hours);
#                           PG=, SUITES=, MODES=, see test/core/README.md
#   make drill              failovers under Patroni, with and without tcs: ROUNDS=, PG=
#   make demo               a throwaway primary with two standbys, narrated
#   make bench              the benchmark
#   make lint               checks of the sources
#
# test, torture, check-core, drill, demo and bench run without a pg_config (test/private.sh); so PGXS is
# read only for the other targets.

tcs_here := $(dir $(lastword $(MAKEFILE_LIST)))
tcs_scripts := test torture check-core drill demo bench lint help

# Version of the library = default_version of the control file.
TCS_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(tcs_here)tcs.control)

# What git says of these sources; nothing where they are not a repository.
TCS_BUILD := $(shell test ! -e $(tcs_here).git || \
	git -c safe.directory='*' -C $(tcs_here) describe --always --dirty --tags 2>/dev/null | \
	tr -cd 'A-Za-z0-9._+/-')

MODULE_big = tcs
EXTENSION = tcs
PGFILEDESC = "tcs - tunable consistency for reads on standbys"
DATA = $(patsubst $(tcs_here)%,%,$(sort $(wildcard $(tcs_here)src/sql/tcs--*.sql)))
OBJS = $(patsubst $(tcs_here)%.c,%.o,$(sort $(wildcard $(tcs_here)src/*.c $(tcs_here)src/*/*.c)))

# $(libpq_srcdir) and $(libpq) are set by PGXS.
PG_CPPFLAGS = -I$(tcs_here)src -I$(libpq_srcdir) -DTCS_VERSION='"$(TCS_VERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers $(if $(filter 1,$(WERROR)),-Werror)
SHLIB_LINK_INTERNAL = $(libpq)

ifneq (,$(filter-out $(tcs_scripts),$(or $(MAKECMDGOALS),all)))

PG_CONFIG ?= $(if $(PG),/usr/lib/postgresql/$(PG)/bin/pg_config,pg_config)
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# Major version to name in the message below: what pg_config or PG says, or the
# newest server of this machine, or what this Debian release has.
tcs_major = $(firstword \
	$(shell $(PG_CONFIG) --version 2>/dev/null | sed 's/^PostgreSQL \([0-9]*\).*/\1/') \
	$(PG) \
	$(shell ls /usr/lib/postgresql 2>/dev/null | sort -rn | head -1) \
	$(shell . /etc/os-release 2>/dev/null; test "$$VERSION_CODENAME" != trixie || echo 17) \
	15)

ifeq (,$(and $(wildcard $(PGXS)),$(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h)))
$(error no server headers found by "$(PG_CONFIG)": install the Debian package postgresql-server-dev-$(tcs_major), or name another server with PG_CONFIG=/path/to/pg_config)
endif

# For "make installcheck" (packagers): every suite on a temporary instance of
# the installed server.  "make test" runs the same tests without installing.
tcs_instance = --load-extension=tcs --temp-config=$(abspath $(tcs_here)test/tcs.conf)
REGRESS = $(patsubst $(tcs_here)sql/%.sql,%,$(sort $(wildcard $(tcs_here)sql/*.sql)))
REGRESS_OPTS = --temp-instance=tmp_check_regress --inputdir=$(tcs_here) $(tcs_instance)
ISOLATION = $(patsubst $(tcs_here)test/isolation/specs/%.spec,%,$(sort $(wildcard $(tcs_here)test/isolation/specs/*.spec)))
ISOLATION_OPTS = --temp-instance=tmp_check_iso --inputdir=$(tcs_here)test/isolation \
	--outputdir=output_iso $(tcs_instance)
TAP_TESTS = 1
PROVE_TESTS = $(patsubst $(tcs_here)%,%,$(sort $(wildcard $(tcs_here)test/t/*.pl)))
EXTRA_CLEAN = tmp_check_regress tmp_check_iso output_iso log src/build.stamp

# A build outside of the source tree (VPATH) needs the folders of the objects.
$(shell mkdir -p $(sort $(dir $(OBJS))))

include $(PGXS)

# The one file that has TCS_BUILD in it is compiled anew when that has changed.
$(shell printf '%s' '$(TCS_BUILD)' | cmp -s - src/build.stamp || \
	printf '%s' '$(TCS_BUILD)' > src/build.stamp)
src/base/version.o src/base/version.bc: override CPPFLAGS += $(if $(TCS_BUILD),-DTCS_BUILD='"$(TCS_BUILD)"')
src/base/version.o src/base/version.bc: src/build.stamp

# PGXS on Debian tracks no dependencies; the files are few, so all on all.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(tcs_here)src/*.h $(tcs_here)src/*/*.h) $(tcs_here)Makefile $(tcs_here)tcs.control

endif

# What was set on the command line, for the scripts.
tcs_env = $(foreach v,PG PG_CONFIG WERROR T REGRESS ISOLATION CONSISTENCY JOBS KEEP \
	SECONDS SEED MIX LEVELS VERBOSE SUITES MODES FILES CORE_SOURCE \
	ROUNDS SHORT PORTS,$(if \
	$(filter command environment,$(firstword $(origin $(v)))),$(v)='$($(v))'))

.PHONY: $(tcs_scripts)

test:
	@$(tcs_env) $(tcs_here)test/run

torture:
	@$(tcs_env) $(tcs_here)test/consistency/run

check-core:
	@$(tcs_env) $(tcs_here)test/core/run

drill:
	@$(tcs_env) $(tcs_here)test/patroni/run

demo:
	@$(tcs_env) $(tcs_here)demo/demo

bench:
	@$(tcs_env) $(tcs_here)test/bench/run

lint:
	@$(tcs_here)test/lint/run

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' $(tcs_here)Makefile
