/*-------------------------------------------------------------------------
 *
 * read.h
 *	  One read on its way through the gate: all that belongs to it.
 *
 * NOTES
 *	  A hook makes a TcsRead on its own stack, fills in site and choice, and hands
 *	  it down.  It ends with the hook, however that ends, so there is nothing to
 *	  unwind.  A statement below another has a TcsRead of its own.
 *
 *	  What has to stay while the client's statement runs is TcsClientStatement:
 *	  what functions read within it is compared with that.  There is one, since a
 *	  client has one statement at a time.  It begins again when the next statement
 *	  of the client comes to the gate, whatever became of the last one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_READ_H
#define TCS_READ_H

#include "choice/choice.h"
#include "gate/fallback.h"
#include "gate/requirement.h"
#include "gate/wait.h"
#include "statement/site.h"

/* What the gate can do with a read; see decide.c for when, gate.c for how. */
typedef enum TcsAction
{
	TCS_ACTION_FOLLOW,			/* it runs where its transaction runs: there */
	TCS_ACTION_DROP_TOKEN,		/* go on without a token that is lost */
	TCS_ACTION_SERVE,			/* from the snapshot at hand */
	TCS_ACTION_REFUSE_WRITE,	/* if it is one that core refuses anyway */
	TCS_ACTION_EXCUSE,			/* if standing defaults do not bind it */
	TCS_ACTION_RELAX,			/* if the emergency valve is open */
	TCS_ACTION_SURVEY,			/* what can be done about its snapshot? */
	TCS_ACTION_ASK,				/* the primary about a snapshot that is fixed */
	TCS_ACTION_RENEW,			/* wait for a new snapshot, or redirect */
	TCS_ACTION_CONFIRM,			/* what it shows, by a quorum */
	TCS_ACTION_JUDGE_PROMOTED,	/* the node was promoted during the wait */
	TCS_ACTION_NOTE_REDIRECTED, /* it runs on the primary */
	TCS_ACTION_LEAVE,			/* it passes, and nothing is said of it */
	TCS_ACTION_FAIL				/* serve a weaker level, or refuse */
} TcsAction;

/* Why TCS_ACTION_FAIL. */
typedef enum TcsFailing
{
	TCS_FAILING_NOT,
	TCS_FAILING_MISPLACED,		/* its snapshot cannot be what it has to be */
	TCS_FAILING_UNMEETABLE,		/* no wait can meet the requirement */
	TCS_FAILING_TOO_LATE,		/* its snapshot is too old, and stays */
	TCS_FAILING_GAVE_UP,		/* the same, and BEGIN has waited for a better */
	TCS_FAILING_AFTER_WAIT		/* the reason is noted already */
} TcsFailing;

/* What was done about a read already; bits. */
#define TCS_TRIED_DROP			0x01
#define TCS_TRIED_WRITE			0x02
#define TCS_TRIED_EXCUSE		0x04
#define TCS_TRIED_RELAX			0x08
#define TCS_TRIED_SURVEY		0x10
#define TCS_TRIED_ASK			0x20
#define TCS_TRIED_RENEW			0x40
#define TCS_TRIED_CONFIRM		0x80
#define TCS_TRIED_PROMOTED		0x100

/* The client's statement that runs: what it was checked against. */
typedef struct TcsClientStatement
{
	/*
	 * If it took the fast path, its level, and what is needed to tell what it
	 * was served on; else -1, and then arrival, confirmed and relaxed count.
	 */
	int			at_once_level;
	bool		at_once_proof_kept; /* in tcs_last, as it was renewed */
	bool		confirmed;		/* a quorum has confirmed what it shows */
	bool		relaxed;		/* served at less, as this node is relaxed */
	bool		plan_is_void;	/* and the plan has to be made again */
	bool		ran_too_early;	/* planning has run what should have waited */
	int64		at_once_at;		/* for a bound */
	int64		arrival;		/* 0: not known */

	/*
	 * Settings that it was checked against; 0 if a hint or a rule had a say,
	 * and then that choice, and the settings it was made with.
	 */
	uint64		generation;
	uint64		choice_generation;
	uint64		rules_changes;
	TcsKeptChoice choice;

	/*
	 * The plan that was started last, if that was seen; only compared.  When
	 * another one goes on, as the portal of a cursor does, its snapshot may
	 * be older than what was proved last, and what it calls must not go by
	 * that.
	 */
	const QueryDesc *started;

	/*
	 * The planning of it, if that had to come to the gate; else planned_in is
	 * 0, or the start of an earlier message of the client.
	 */
	TimestampTz planned_in;
	int64		planning_arrival;
	int64		planning_waited_us;
} TcsClientStatement;

extern TCS_LOCAL TcsClientStatement tcs_client_statement;

typedef struct TcsRead
{
	/* made by the hook */
	TcsSite		site;
	TcsHint		hint;			/* the choice points to it */
	TcsChoice	choice;

	/* set up by tcs_read_begin(): all that a decision goes by */
	TcsClientStatement *client; /* this one, or the one it is below */
	TcsContext	context;
	TcsUnmet	facts;
	int			tried;			/* TCS_TRIED_* */
	bool		follows;		/* its transaction runs on the primary */
	bool		may_drop_token; /* if that is lost */
	bool		met;			/* by the snapshot at hand */
	bool		plan_is_void;	/* it has to be planned again before it is run */
	bool		misplaced;		/* no wait can give it the snapshot it needs */
	bool		can_swap;		/* its snapshot can be replaced */
	bool		can_redirect;
	bool		gave_up;		/* BEGIN or SET has waited for the same */
	TcsWaitResult result;		/* of TCS_ACTION_RENEW */
	int64		deadline;		/* of what it waits for */
} TcsRead;

/* What can be done to have the requirement of a read met; see renew_decide.c. */
typedef enum TcsRenewStep
{
	TCS_RENEW_WAIT_BRIEFLY,		/* and end when it is known to be hopeless */
	TCS_RENEW_REDIRECT,
	TCS_RENEW_RELEASE_LOCKS,	/* those of its own analysis */
	TCS_RENEW_WAIT,
	TCS_RENEW_DROP_TOKEN,		/* go on without it */
	TCS_RENEW_NOTE_REASON,		/* why it was not met */
	TCS_RENEW_REFUSE,
	TCS_RENEW_END				/* with the result of the step before */
} TcsRenewStep;

/* The steps that were taken; bits. */
#define TCS_RENEWED_WAIT_BRIEFLY	(1 << TCS_RENEW_WAIT_BRIEFLY)
#define TCS_RENEWED_REDIRECT		(1 << TCS_RENEW_REDIRECT)
#define TCS_RENEWED_RELEASE_LOCKS	(1 << TCS_RENEW_RELEASE_LOCKS)
#define TCS_RENEWED_WAIT			(1 << TCS_RENEW_WAIT)
#define TCS_RENEWED_DROP_TOKEN		(1 << TCS_RENEW_DROP_TOKEN)
#define TCS_RENEWED_REASON			(1 << TCS_RENEW_NOTE_REASON)

/* TCS_ACTION_RENEW on its way: what its next step goes by. */
typedef struct TcsRenewal
{
	bool		can_redirect;
	bool		may_come_late;	/* another statement, which can be redirected,
								 * comes after this wait */
	bool		unmeetable;		/* no wait can meet the requirement */
	bool		token_is_lost;	/* and may be dropped */
	bool		can_release;	/* locks that replay may wait for */
	bool		redirect_is_next;	/* by the fallback, for this reason */
	bool		refuse_is_next; /* and nothing later would notice */
	int			tried;			/* TCS_RENEWED_* */
	TcsWaitResult result;		/* of the last step */

	/* for the steps themselves */
	bool		holding;		/* something that replay may wait for */
	int64		deadline;
} TcsRenewal;

/* Is this a statement that reads, as far as counters are concerned? */
static inline bool
tcs_site_is_read(const TcsSite *site)
{
	return site->kind == TCS_SITE_QUERY || site->kind == TCS_SITE_UTILITY ||
		site->kind == TCS_SITE_CALL;
}

/* Can no node of this history serve the token, now or later? */
static inline bool
tcs_reason_is_lost(TcsReason reason)
{
	return reason == TCS_REASON_LOST || reason == TCS_REASON_FOREIGN;
}

/* read.c */
extern void tcs_read_begin(TcsRead *read);
extern void tcs_read_weigh(TcsRead *read);
extern bool tcs_read_has_void_plan(void);
extern bool tcs_prove_fixed_snapshot(const TcsRead *read, bool wait);
extern bool tcs_read_is_led_by_confirmed(const TcsRead *read);
extern void tcs_read_renew_context(TcsRead *read);
extern bool tcs_read_drop_lost_token(TcsRead *read);
extern bool tcs_read_ask_for_less(TcsRead *read);
extern bool tcs_read_waits_briefly(const TcsRead *read);

/* decide.c: pure */
extern TcsAction tcs_gate_decide(const TcsRead *read, TcsFailing *failing);

/* renew_decide.c: pure */
extern TcsRenewStep tcs_renew_decide(const TcsRenewal *renewal);
extern int	tcs_renew_tried(int tried, TcsRenewStep step);
extern bool tcs_renewal_is_unmet(const TcsRenewal *renewal);

/* renew.c */
extern void tcs_renew_snapshot(TcsRead *read);
extern bool tcs_renew_can_redirect(const TcsRead *read);
extern void tcs_renew_judge_promoted(TcsRead *read);
extern TcsWaitResult tcs_renew_wait(TcsRead *read, bool holding, int64 deadline,
									bool impatient);
extern TcsReason tcs_renew_reason(const TcsUnmet *facts, TcsWaitResult result);

/* confirm.c */
extern bool tcs_confirm_snapshot(TcsRead *read, int64 deadline);

/* conclude.c */
extern void tcs_read_pass(TcsRead *read);
extern void tcs_read_note_redirected(TcsRead *read);
extern void tcs_read_fail(TcsRead *read);
extern void tcs_read_refuse(TcsRead *read);

#endif							/* TCS_READ_H */
