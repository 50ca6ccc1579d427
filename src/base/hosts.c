/*-------------------------------------------------------------------------
 *
 * hosts.c
 *	  The hosts of a connection string, in the order in which they are tried.
 *
 * NOTES
 *	  libpq can walk over a list of hosts by itself.  But it stops at the first
 *	  one that calls itself a primary, and a deposed primary that still runs is
 *	  such a one.  Only our own checks tell.  It may also wait at one host for as long as
 *	  that host is silent.  So libpq is given one place at a time, and this file says
 *	  which is next.  Redirects and the worker of a standby both use it.  A name can
 *	  stand for several addresses; each of them is a place of its own.
 *
 *	  The hosts of a redirect share one deadline.  A place gets an equal part of the time that is left
 *	  for it and those behind it.  A place that has used up its part in silence may
 *	  still be the primary, and be slow: it is tried again with the time that the
 *	  others have left over.
 *
 *	  Which place was the primary last is remembered for all sessions of this node.
 *	  It is tried first, so that a read does not pay for hosts that are known not to
 *	  be the primary.  This is a matter of order alone: every place is checked each
 *	  time, and none is ever left out.  So nothing needs to expire.  After a
 *	  switchover, one read finds the new primary for all the others.
 *
 *	  Names are looked up here, when their turn comes.  This blocks as long as the
 *	  resolver does, as it would in libpq.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netdb.h>
#include <sys/socket.h>

#include "common/hashfn.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"

#include "base/hosts.h"
#include "base/tcs.h"

/* How many lists of hosts are remembered. */
#define TCS_HOST_LISTS	64

/* Addresses of one name that are tried at most. */
#define TCS_MAX_ADDRESSES	32

/* A list of hosts, and which of them was the primary last. */
typedef struct TcsKnownPrimary
{
	/*
	 * Written and read without a lock, one after the other.  If the two do
	 * not belong together, hosts are tried in another order, once.
	 */
	pg_atomic_uint64 list;		/* digest of the list; 0: none */
	pg_atomic_uint64 place;		/* number in it, and digest of the address */
} TcsKnownPrimary;

static TcsKnownPrimary *known = NULL;

struct TcsHostWalk
{
	uint64		list;			/* digest of what follows */
	int			nhosts;
	char	  **names;			/* each array may be NULL */
	char	  **addresses;
	char	  **ports;
	int			first;			/* number of the host to begin with */
	uint32		first_address;	/* digest of its address to begin with */

	int			tried;			/* hosts that were begun with */
	int			nplaces;		/* of the host at hand */
	int			place;
	TcsHost    *places;
	List	   *silent;			/* of TcsHost, to be tried again */
	bool		again;
	const TcsHost *present;
};

Size
tcs_hosts_shmem_size(void)
{
	return mul_size(TCS_HOST_LISTS, sizeof(TcsKnownPrimary));
}

void
tcs_hosts_shmem_init(void *ptr, LWLock *lock, bool found)
{
	known = ptr;
	if (found)
		return;
	for (int i = 0; i < TCS_HOST_LISTS; i++)
	{
		pg_atomic_init_u64(&known[i].list, 0);
		pg_atomic_init_u64(&known[i].place, 0);
	}
}

/* The elements of a list of libpq's; NULL if there is none. */
static char **
split_list(const char *list, int *n)
{
	char	  **elements;

	*n = 0;
	if (list == NULL || list[0] == '\0')
		return NULL;
	*n = 1;
	for (const char *p = list; *p != '\0'; p++)
		*n += *p == ',';
	elements = palloc(*n * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		size_t		len = strcspn(list, ",");

		elements[i] = pnstrdup(list, len);
		list += len + 1;
	}
	return elements;
}

static uint64
add_to_digest(uint64 seed, const char *text)
{
	return text ? hash_bytes_extended((const unsigned char *) text, strlen(text) + 1, seed) : seed;
}

static uint32
digest_of_address(const char *address)
{
	return address ? hash_bytes((const unsigned char *) address, strlen(address)) : 0;
}

/* The place in shared memory for this list. */
static TcsKnownPrimary *
slot_of(const TcsHostWalk *walk)
{
	return &known[walk->list % TCS_HOST_LISTS];
}

/*
 * Begin to walk over hosts.  All is allocated in the present memory context, also by
 * tcs_hosts_next().
 *
 * Lists that do not fit each other are for libpq to complain of: it gets them as
 * they are, as one place.
 */
TcsHostWalk *
tcs_hosts_begin(const TcsHostLists *lists)
{
	TcsHostWalk *walk = palloc0(sizeof(TcsHostWalk));
	int			nnames;
	int			naddresses;
	int			nports;
	TcsKnownPrimary *slot;

	walk->names = split_list(lists->host, &nnames);
	walk->addresses = split_list(lists->hostaddr, &naddresses);
	walk->ports = split_list(lists->port, &nports);
	walk->nhosts = Max(Max(nnames, naddresses), 1);
	if ((nnames > 0 && naddresses > 0 && nnames != naddresses) ||
		(nports > 1 && nports != walk->nhosts))
	{
		walk->nhosts = 1;
		walk->names = walk->addresses = walk->ports = NULL;
	}
	else if (nports == 1)
	{
		/* a single port is that of all hosts */
		char	   *port = walk->ports[0];

		walk->ports = palloc(walk->nhosts * sizeof(char *));
		for (int i = 0; i < walk->nhosts; i++)
			walk->ports[i] = port;
	}

	walk->list = add_to_digest(add_to_digest(add_to_digest(1, lists->host), lists->hostaddr), lists->port);
	slot = slot_of(walk);
	if (pg_atomic_read_u64(&slot->list) == walk->list)
	{
		uint64		place = pg_atomic_read_u64(&slot->place);

		walk->first = (place >> 32) < walk->nhosts ? (int) (place >> 32) : 0;
		walk->first_address = (uint32) place;
	}
	return walk;
}

/* Put a place into the list of those of the host at hand. */
static void
add_place(TcsHostWalk *walk, int number, const char *address)
{
	TcsHost    *host = &walk->places[walk->nplaces++];

	host->number = number;
	host->name = walk->names ? walk->names[number] : NULL;
	host->address = address;
	host->port = walk->ports ? walk->ports[number] : NULL;
	if (number == walk->first && walk->nplaces > 1 &&
		digest_of_address(address) == walk->first_address)
	{
		TcsHost		known_one = *host;

		memmove(walk->places + 1, walk->places, (walk->nplaces - 1) * sizeof(TcsHost));
		walk->places[0] = known_one;
	}
}

/* Has this host a name that is to be looked up? */
static bool
is_looked_up(const TcsHostWalk *walk, int number)
{
	const char *name = walk->names ? walk->names[number] : "";

	if (walk->addresses && walk->addresses[number][0] != '\0')
		return false;
	/* libpq takes those for a folder of a socket, and for one without a file */
	return name[0] != '\0' && name[0] != '/' && name[0] != '@';
}

/*
 * Look up the places of a host.  If the name is not known, libpq gets it, and says
 * so in its own words.
 */
static void
find_places(TcsHostWalk *walk, int number)
{
	struct addrinfo hints = {0};
	struct addrinfo *found = NULL;

	walk->places = palloc(TCS_MAX_ADDRESSES * sizeof(TcsHost));
	walk->nplaces = walk->place = 0;
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	if (is_looked_up(walk, number) &&
		getaddrinfo(walk->names[number], NULL, &hints, &found) == 0)
	{
		for (struct addrinfo *a = found; a && walk->nplaces < TCS_MAX_ADDRESSES; a = a->ai_next)
		{
			char		text[NI_MAXHOST];

			if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
							NI_NUMERICHOST) == 0)
				add_place(walk, number, pstrdup(text));
		}
		freeaddrinfo(found);
	}
	if (walk->nplaces == 0)
		add_place(walk, number, walk->addresses ? walk->addresses[number] : NULL);
}

/* The number of the host that is n-th in order: the known one, then the others. */
static int
number_in_order(const TcsHostWalk *walk, int n)
{
	if (n == 0)
		return walk->first;
	return n <= walk->first ? n - 1 : n;
}

/* The next place to try; NULL if there is none, or no time for it. */
const TcsHost *
tcs_hosts_next(TcsHostWalk *walk, int64 deadline)
{
	walk->present = NULL;
	if (walk->tried > 0 && tcs_now() >= deadline)
		return NULL;
	if (walk->place + 1 < walk->nplaces)
		walk->present = &walk->places[++walk->place];
	else if (walk->tried < walk->nhosts)
	{
		find_places(walk, number_in_order(walk, walk->tried));
		walk->tried++;
		walk->present = &walk->places[0];
	}
	else if (walk->silent != NIL)
	{
		walk->again = true;
		walk->nplaces = 0;
		walk->present = linitial(walk->silent);
		walk->silent = list_delete_first(walk->silent);
	}
	return walk->present;
}

/* Until when may the present place take its time? */
int64
tcs_hosts_share(const TcsHostWalk *walk, int64 deadline)
{
	int64		now = tcs_now();
	int			left = walk->again ? 1 + list_length(walk->silent) :
		walk->nhosts - walk->tried + walk->nplaces - walk->place;

	return now + Max(deadline - now, 0) / left;
}

/* Is there more than one place, as far as is known now? */
bool
tcs_hosts_has_several(const TcsHostWalk *walk)
{
	return walk->nhosts > 1 || walk->nplaces > 1 || walk->again;
}

/* The present place has used up its share, and said nothing. */
void
tcs_hosts_note_silent(TcsHostWalk *walk)
{
	TcsHost    *host;

	if (walk->again)
		return;
	host = palloc(sizeof(TcsHost));
	*host = *walk->present;
	walk->silent = lappend(walk->silent, host);
}

/* The present place is the primary. */
void
tcs_hosts_note_primary(const TcsHostWalk *walk)
{
	TcsKnownPrimary *slot = slot_of(walk);
	uint64		place = ((uint64) walk->present->number << 32) |
		digest_of_address(walk->present->address);

	if (pg_atomic_read_u64(&slot->list) == walk->list &&
		pg_atomic_read_u64(&slot->place) == place)
		return;
	pg_atomic_write_u64(&slot->place, place);
	pg_atomic_write_u64(&slot->list, walk->list);
}

/* Is this libpq's default, or what it has to complain of? */
bool
tcs_host_is_default(const TcsHost *host)
{
	return host->name == NULL && host->address == NULL;
}

/* Does a place take the place of this parameter of libpq's? */
bool
tcs_host_is_param(const char *keyword)
{
	return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 ||
		strcmp(keyword, "port") == 0;
}

/*
 * Add what libpq is to be told of a place, TCS_HOST_PARAMS parameters at most, behind
 * the first n.  Returns their number.  An empty element of a list stands for libpq's
 * default.
 */
int
tcs_host_add_params(const TcsHost *host, const char **keywords, const char **values, int n)
{
	keywords[n] = "host";
	values[n++] = host->name && host->name[0] ? host->name :
		host->address && host->address[0] ? host->address : DEFAULT_PGSOCKET_DIR;
	keywords[n] = "hostaddr";
	values[n++] = host->address;
	if (host->port)
	{
		keywords[n] = "port";
		values[n++] = host->port[0] ? host->port : DEF_PGPORT_STR;
	}
	return n;
}
