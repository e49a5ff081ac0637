/*
 * The scheduler in parts: one matcher and several shards of the models, each an fm_sched of its own
 * that may live on a thread of its own.
 *
 * Owns: what the parts tell each other. Does not own: carrying it (host/sched). Thread rule: pure;
 * one thread at a time for each part.
 *
 * HOW IT WORKS. A shard takes requests, keeps the queues and the demand of its models, and works
 * out their candidates: what happens for each request happens there. It tells the matcher what a
 * model would run now (OFFER), the last word counting. The matcher knows offers and accelerators
 * only; it grants an accelerator to an offer (GRANT). The shard then forms the batch from what is
 * queued by that time, hands it out as a START action, and says what the accelerator is in for
 * (ANSWER; of zero requests when there is nothing left to run). Ends of batches are told to the
 * matcher, which passes them on (ENDED). All messages are of the rate of batches, not of requests.
 *
 * A model that has been granted what it wants is out of the running until all its grants are
 * answered; an answer carries a fresh offer, and offers that crossed a grant are not looked at. So
 * a model with several batches' worth of requests says so (`want`), or it would start one batch in
 * each round trip. What happens to an accelerator whose grant is not answered yet is kept until it
 * is. Messages of one sender to one receiver have to arrive in order, nothing else has to. Every
 * few milliseconds (FM_SCHED_EXCHANGE_NS) the shards' demand is told to the matcher, and what it
 * makes of it to the shards.
 *
 * Who carries this: the matcher is told MODEL_SET before the shard and MODEL_REMOVED after it, or
 * an offer could come too early and be forgotten.
 *
 * The decisions are those of a whole scheduler if messages arrive at once, offer_slack_ns is 0 and
 * no demand of other models counts (tests/prop/sched_parts.c). Otherwise: which old requests
 * `deferred` lets go depends on when the next accelerator would come free, of which a grant tells
 * FM_SCHED_OUTLOOK_STEPS points only; what depends on the demand of all models (admission,
 * clearance, fairness, goals) goes by the demand as last exchanged, and shares of the cost by that
 * of the shard's own models; with a slack, order is kept to within it, and a model that wants
 * several batches gets them together where nobody else is ready for those accelerators.
 *
 * Latencies are learnt twice, by the matcher and by the model's shard, from the same ends of
 * batches: both come to the same tables.
 *
 * LIMITATIONS. Policies that choose among all models in their own way (nexus, shepherd, clockwork)
 * have no form in parts.
 */
#ifndef FM_CORE_SCHED_PARTS_H
#define FM_CORE_SCHED_PARTS_H

#include "core/sched/sched.h"

#define FM_SCHED_OUTLOOK_STEPS  5u
#define FM_SCHED_WANT_MAX       16u
#define FM_SCHED_DEMAND_CLASSES 33u
#define FM_SCHED_EXCHANGE_NS    UINT64_C(20000000)

enum fm_sched_message_kind {
    FM_SCHED_MESSAGE_OFFER,  /* shard to matcher */
    FM_SCHED_MESSAGE_ANSWER, /* shard to matcher */
    FM_SCHED_MESSAGE_GRANT,  /* matcher to the model's shard */
    FM_SCHED_MESSAGE_ENDED   /* matcher to the model's shard */
};

enum fm_sched_end { FM_SCHED_END_NONE, FM_SCHED_END_DONE, FM_SCHED_END_FAILED, FM_SCHED_END_LOST };

/* What a model would run now. */
struct fm_sched_offer {
    uint64_t key_ns;      /* the order among those that are ready */
    uint64_t deadline_ns; /* of its first request */
    uint32_t count;       /* requests queued; with a slack up to so many as nothing is said about */
    uint8_t state;        /* enum fm_sched_model_state */
    uint8_t reach_class;
    uint16_t want; /* batches it would start now */
    bool known;    /* false: nothing was offered yet, or it does not count any more */
};

/* When the accelerator after this one comes free for what stays behind, if the latest start of that
 * is i * step_ns from now. */
struct fm_sched_outlook {
    uint64_t step_ns;                         /* 0: was not needed */
    uint64_t turn_ns[FM_SCHED_OUTLOOK_STEPS]; /* FM_SCHED_NEVER: later than can be told */
};

struct fm_sched_message {
    enum fm_sched_message_kind kind;
    uint32_t model;
    uint32_t accelerator; /* not OFFER */
    uint64_t batch;       /* not OFFER */
    union {
        struct fm_sched_offer offer;
        struct {
            uint32_t count; /* 0: nothing is started */
            uint64_t start_ns;
            uint64_t expected_ns;
            struct fm_sched_offer offer; /* what the model would run next */
        } answer;
        struct {
            uint8_t type;
            uint32_t permille;
            uint64_t free_ns; /* 0: it is */
            uint64_t at_ns;   /* when it was granted */
            struct fm_sched_outlook outlook;
        } grant;
        struct {
            enum fm_sched_end end;
            uint64_t ran_ns; /* to learn from; 0: nothing */
        } ended;
    } as;
};

/* What a shard's models ask for. */
struct fm_sched_load {
    uint64_t busy_micro[FM_SCHED_DEMAND_CLASSES];
    uint64_t near_micro[FM_SCHED_DEMAND_CLASSES];
    uint32_t models[FM_SCHED_DEMAND_CLASSES];
    uint64_t starts_millihertz; /* batches of target size */
    uint32_t bad_q20;
    uint64_t outcomes; /* requests served or not, so far */
};

/* What the matcher makes of all loads. */
struct fm_sched_pool {
    uint64_t busy_micro;
    uint64_t starts_millihertz;
    uint32_t up_count;
    uint32_t up_by_type[FM_SCHED_TYPES_LIMIT];
    uint32_t clearance_count;
    uint32_t clearance_class; /* of reach: nobody up to this is held back */
    uint32_t model_count;
    uint32_t bad_q20;
};

bool fm_sched_policy_has_parts(enum fm_sched_policy_kind policy);

void fm_sched_shard_load_get(const struct fm_sched *shard, struct fm_sched_load *ret_load);
void fm_sched_matcher_load_set(struct fm_sched *matcher, uint32_t shard,
                               const struct fm_sched_load *load);
void fm_sched_matcher_pool_get(const struct fm_sched *matcher, struct fm_sched_pool *ret_pool);
void fm_sched_shard_pool_set(struct fm_sched *shard, const struct fm_sched_pool *pool);

#endif
