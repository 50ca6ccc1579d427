/*-------------------------------------------------------------------------
 *
 * worker_sleep.c
 *	  How the worker sleeps: on its latch, its connection and a timer.
 *
 * NOTES
 *	  The worker goes to sleep thousands of times per second while sessions
 *	  wait, and must wake up after fractions of a millisecond.  WaitLatch() makes
 *	  a new set of events each time, and counts in milliseconds; so there is one
 *	  set that lasts, with a timer in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "standby/worker_conn.h"
#include "standby/worker_sleep.h"

static int	timer_fd = -1;
static bool timer_armed = false;

/* Let the timer go off after some us; 0: not at all. */
static void
set_timer(int64 us)
{
	struct itimerspec timer = {0};

	timer.it_value.tv_nsec = us * 1000;
	(void) timerfd_settime(timer_fd, 0, &timer, NULL);
	timer_armed = us > 0;
}

static void
clear_timer(void)
{
	uint64		expirations;

	(void) !read(timer_fd, &expirations, sizeof(expirations));
	timer_armed = false;
}

/*
 * The set of what may wake us; made again whenever there is another socket, or
 * something else to wait for on it.
 */
static WaitEventSet *
event_set(void)
{
	static WaitEventSet *set = NULL;
	static uint64 serial = 0;
	pgsocket	socket = tcs_conn_socket();

	if (timer_fd < 0)
	{
		timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		if (timer_fd < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not create timer: %m")));
	}
	if (set && serial == tcs_conn_socket_serial())
		return set;
	if (set)
		FreeWaitEventSet(set);
	serial = tcs_conn_socket_serial();
	set = tcs_create_wait_event_set_compat(4);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, timer_fd, NULL, NULL);
	if (socket != PGINVALID_SOCKET)
		AddWaitEventToSet(set, tcs_conn_wait_events(), socket, NULL, NULL);
	return set;
}

/*
 * Sleep until the latch is set, the connection has something to say, or so
 * many us have passed.  The latch is reset.
 */
TcsWakeUp
tcs_sleep(int64 timeout_us, uint32 wait_event)
{
	WaitEventSet *set = event_set();
	WaitEvent	events[4];
	TcsWakeUp	wake_up = {0};
	int			n;

	if (timeout_us > 0 && timeout_us < 1000)
		set_timer(timeout_us);
	else if (timer_armed)
		set_timer(0);
	n = WaitEventSetWait(set, timer_armed ? -1 : timeout_us / 1000,
						 events, lengthof(events), wait_event);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			wake_up.latch = true;
		}
		else if (events[i].fd == timer_fd)
			clear_timer();
		else
			wake_up.socket = true;
	}
	return wake_up;
}
