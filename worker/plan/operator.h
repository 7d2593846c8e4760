/*
 * An operator: one kind of node. A row gives its name and the two functions that add its work to a plan.
 */
#ifndef LS_WORKER_OPERATOR_H
#define LS_WORKER_OPERATOR_H

#include "worker/plan/plan.h"

struct ls_operator {
    const char *name;
    /* Adds the forward calls of one node: reads its inputs with ls_plan_in, makes its outputs with ls_plan_out. */
    ls_status (*forward)(ls_plan *p, const ls_node *node, ls_err *err);
    /* Adds the backward calls: reads ls_plan_dout, writes ls_plan_din and ls_plan_dweight. NULL: no gradient passes. */
    ls_status (*backward)(ls_plan *p, const ls_node *node, ls_err *err);
    /* Whether this node, which computes all up to `last` (at first itself), can also compute `next`, the only consumer
     * of last->out[0]; NULL: never. When it says yes, and as often as it does, ls_plan_fused(p, node) gives the last
     * node that it computes: it then makes that one's output instead of its own, and its backward starts from that
     * one's dout; the functions of those that it computes are not called. Whatever else `next` reads must be there
     * before this node runs. */
    bool (*can_fuse)(const ls_plan *p, const ls_node *node, const ls_node *last, const ls_node *next);
    /* For activations: its word ("relu", "softmax", "sigmoid") when the node is the plain form of it (softmax: over the
     * last axis), else NULL. NULL function: not an activation. */
    const char *(*activation)(const ls_node *node);
    /* backward has a gradient of its own to give, and is called whether or not one comes from after the node. */
    bool makes_gradient;
    /* Nothing but its outputs comes of it: it is left out when nobody reads them. */
    bool idle_unread;
    /* Whether this node can do without the output of `producer`, which makes its in[0] from the producer's own inputs
     * and weights; NULL: never. When all that read the output say yes, none of the producer's functions is called: each
     * of them reads the producer's inputs and weights itself (ls_plan_absorbed(p, producer)) and gives their gradients.
     */
    bool (*can_absorb)(const ls_plan *p, const ls_node *node, const ls_node *producer);
};

#endif
